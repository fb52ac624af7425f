import { Redis } from 'ioredis'
import { test } from 'tap'
import { errorCodes, type TooljetEmbedOptions } from '../plugin/index.js'
import { resolveOptions } from '../plugin/config/options.js'
import type { Target } from '../plugin/tooljet/target.js'
import { SALES } from './support/portal.js'
import { fieldsOf } from './support/type-check.js'

const redis = new Redis({ lazyConnect: true })
const good = { tooljet: { url: 'https://tooljet.example.com/base/', apiToken: 'secret-token' }, redis }
const resolve = (options: object, inherited?: unknown) => resolveOptions(options as TooljetEmbedOptions, inherited)

function refusal (options: object): string {
  try {
    resolve(options)
    return 'accepted'
  } catch (error) {
    if (!(error instanceof errorCodes.TOOLJET_EMBED_OPTIONS)) throw error
    return error.message
  }
}

test('the defaults are those of the documentation', async (t) => {
  const settings = resolve(good)
  t.match(settings, {
    tooljet: { url: 'https://tooljet.example.com/base', apiToken: 'secret-token', embedOrigins: ['https://tooljet.example.com'], timeoutMs: 10_000, checkAccess: false },
    redisTimeoutMs: 1000,
    keyPrefix: 'tooljet-embed:',
    lifetimes: { patExpiry: 3600, sessionExpiry: 60, minRemaining: 60 },
    rateLimit: { max: 60, mints: 6, timeWindow: 60_000 },
    route: { path: '/api/get-tooljet-url' },
    client: { path: '/tooljet-embed.js' },
    audit: { stream: 'tooljet-embed:audit', retentionMs: 90 * 86_400_000, maxEntries: 1_000_000, identity: 'email', functions: true, delivery: 'buffered' },
    onRedisDown: 'serve',
    encryptionKeys: ['secret-token'],
  })
  t.equal(settings.apps, undefined)
  t.equal(settings.metrics, undefined)
  t.equal(settings.redis, redis)
  t.equal(resolve({ ...good, redis: undefined }, redis).redis, redis, 'fastify.redis is the default')
  t.equal(resolve({ ...good, patExpiry: 50 }).lifetimes.minRemaining, 5, 'a tenth of a short life')
  t.equal(resolve({ ...good, keyPrefix: 'acme:' }).audit.stream, 'acme:audit', 'the stream moves with the prefix')
  t.equal(resolve({ ...good, rateLimit: false }).rateLimit, undefined)
  t.match(resolve({ ...good, route: false }), { route: undefined, client: undefined }, 'no route, no page that asks it')
  t.match(resolve({ ...good, client: false }), { route: {}, client: undefined })
  t.same(resolve({ ...good, route: false, client: { path: '/embed.js' } }).client, { path: '/embed.js' })
  t.same(resolve({ ...good, rateLimit: { max: 5 } }).rateLimit, { max: 5, mints: 6, timeWindow: 60_000 })
  t.same(resolve({ ...good, rateLimit: { timeWindow: 1500 } }).rateLimit, { max: 60, mints: 6, timeWindow: 1500 })
  t.same(resolve({ ...good, rateLimit: { timeWindow: '2 hours' } }).rateLimit, { max: 60, mints: 6, timeWindow: 7_200_000 })
  t.same(resolve({ ...good, encryptionKey: ['new-secret-0123456', 'old-secret-0123456'] }).encryptionKeys, ['new-secret-0123456', 'old-secret-0123456'])
  t.same(resolve({ ...good, encryptionKey: 'x'.repeat(16) }).encryptionKeys, ['x'.repeat(16)])
  t.same((resolve({ ...good, tooljet: { ...good.tooljet, embedOrigins: ['https://a.example/', 'http://b.example:8082'] } }).tooljet as Target).embedOrigins, ['https://a.example', 'http://b.example:8082'])
  const tooljet = () => good.tooljet
  t.match(resolve({ ...good, tooljet, encryptionKey: 'one-secret-0123456' }), { tooljet, encryptionKeys: ['one-secret-0123456'] })
  t.ok(resolve({ ...good, prefix: '/v1', logLevel: 'warn', logSerializers: {} }), "Fastify's own options are fine")
})

test('apps get lifetimes of their own', async (t) => {
  const { apps } = resolve({ ...good, patExpiry: 100, apps: { sales: { appId: SALES.id.toUpperCase(), patExpiry: 10 }, stock: { appSlug: 'stock', sessionExpiry: 5, minRemaining: 2 } } })
  t.match(apps?.get('sales'), { displayName: 'sales', key: `id:${SALES.id}`, name: { appId: SALES.id }, patExpiry: 10, sessionExpiry: 60, minRemaining: 1 })
  t.match(apps?.get('stock'), { displayName: 'stock', key: 'slug:stock', name: { appSlug: 'stock' }, patExpiry: 100, sessionExpiry: 5, minRemaining: 2 })
})

const wrong: [options: object, says: RegExp][] = [
  [{}, /"tooljet" is missing/],
  [{ tooljet: null }, /"tooljet" is null, expected an object/],
  [{ tooljet: { url: 'http://a' } }, /"tooljet\.apiToken" is missing/],
  [{ tooljet: { url: 'http://a', apiToken: '' } }, /"tooljet\.apiToken" is a string \(not shown\)/],
  [{ tooljet: { url: 'http://a', apiToken: 'a\nb' } }, /"tooljet\.apiToken" is a string \(not shown\), expected .*printable/],
  [{ tooljet: { url: 'ftp://a', apiToken: 'x' } }, /"tooljet\.url" .* http:\/\/ or https:\/\//],
  [{ tooljet: { url: 'http://user:hunter2@a', apiToken: 'x' } }, /"tooljet\.url" .* without credentials/],
  [{ tooljet: { url: 'http://a/?q=1', apiToken: 'x' } }, /"tooljet\.url" is a URL with a query/],
  [{ tooljet: 'secret-token' }, /"tooljet" is a string \(not shown\)/],
  [{ tooljet: { url: 'http://a', apiToken: 123456789 } }, /"tooljet\.apiToken" is a number \(not shown\)/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', embedOrigins: ['http//u:hunter2@x/'] } }, /"tooljet\.embedOrigins\.0" is a string \(not shown\)/],
  [{ tooljet: { url: 'nonsense', apiToken: 'x' } }, /"tooljet\.url"/],
  [{ tooljet: { url: 7, apiToken: 'x' } }, /"tooljet\.url" is a number/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', timeoutMs: '5' } }, /"tooljet\.timeoutMs" is "5", expected a whole number of milliseconds/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', timeoutMs: 2 ** 31 } }, /"tooljet\.timeoutMs" is 2147483648/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', checkAccess: 'yes' } }, /"tooljet\.checkAccess" is "yes", expected true or false/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', embedOrigins: [] } }, /"tooljet\.embedOrigins" is a list, expected a list of origins, at least one/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', embedOrigins: ['http://a/path'] } }, /"tooljet\.embedOrigins\.0" is "http:\/\/a\/path"/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', embedOrigins: ['*'] } }, /"tooljet\.embedOrigins\.0" is a string \(not shown\), expected an origin/],
  [{ tooljet: { url: 'http://a', apiToken: 'x', token: 'y' } }, /unknown option "tooljet\.token", expected one of url, apiToken/],
  [{ tooljet: 7 }, /"tooljet" is a number \(not shown\), expected an object with url and apiToken, or a function of the request that gives one/],
  [{ tooljet: () => undefined }, /"encryptionKey" is missing, expected a string of at least 16 characters, or a list of such: it is required where "tooljet" is a function/],
  [{ tooljet: () => undefined, encryptionKey: '' }, /"encryptionKey" is a string \(not shown\)/],
  [{ redis: undefined }, /"redis" is missing.*@fastify\/redis/],
  [{ redis: 'memcached://x' }, /"redis" is another string \(not shown\)/],
  [{ redis: null }, /"redis" is null, expected an ioredis client/],
  [{ redis: {} }, /"redis" is an object, expected an ioredis client/],
  [{ redisTimeoutMs: 0 }, /"redisTimeoutMs" is 0/],
  [{ keyPrefix: '' }, /"keyPrefix" is ""/],
  [{ keyPrefix: 'a{b}' }, /"keyPrefix" is "a\{b\}"/],
  [{ apps: {} }, /"apps" is an object, expected an object with at least one app/],
  [{ apps: { a: {} } }, /"apps\.a" is without both, expected either appId or appSlug/],
  [{ apps: { a: { appId: SALES.id, appSlug: 'x' } } }, /"apps\.a" is with both/],
  [{ apps: { a: { appId: 'x' } } }, /"apps\.a\.appId" is "x", expected a UUID/],
  [{ apps: { a: { appSlug: 'a b' } } }, /"apps\.a\.appSlug" is "a b"/],
  [{ apps: { a: { appSlug: 'a', patExpiry: 10, minRemaining: 10 } } }, /"apps\.a\.minRemaining" is 10, .*less than patExpiry \(10\)/],
  [{ apps: { a: { appSlug: 'a', ttl: 1 } } }, /unknown option "apps\.a\.ttl"/],
  [{ apps: { 'a\nb': { appSlug: 'a' } } }, /"apps" is with an alias/],
  [{ apps: { '': { appSlug: 'a' } } }, /"apps" is with an alias ""/],
  [{ apps: { a: { appSlug: 'x' }, b: { appSlug: 'x', patExpiry: 5 } } }, /"apps\.b" is at odds with apps\.a/],
  [{ apps: { a: { appSlug: 'pat_0123' } } }, /"apps\.a\.appSlug"/],
  [{ apps: [] }, /"apps" is a list/],
  [{ patExpiry: 0 }, /"patExpiry" is 0, expected a whole number of seconds/],
  [{ patExpiry: 1.5 }, /"patExpiry" is 1\.5/],
  [{ patExpiry: '3600' }, /"patExpiry" is "3600"/],
  [{ patExpiry: NaN }, /"patExpiry" is NaN/],
  [{ sessionExpiry: -1 }, /"sessionExpiry" is -1, expected a whole number of minutes/],
  [{ minRemaining: 3600 }, /"minRemaining" is 3600, .*less than patExpiry \(3600\)/],
  [{ minRemaining: -1 }, /"minRemaining" is -1/],
  [{ authenticate: true }, /"authenticate" is true, expected a function/],
  [{ authenticate: (_request: unknown, _reply: unknown, _done: unknown) => {} }, /"authenticate" is a function that takes a callback/],
  [{ identity: 'ana' }, /"identity" is "ana", expected a function/],
  [{ authorize: {} }, /"authorize" is an object/],
  [{ rateLimit: true }, /"rateLimit" is true, expected false, or an object with max/],
  [{ rateLimit: { max: 0 } }, /"rateLimit\.max" is 0/],
  [{ rateLimit: { mints: '6' } }, /"rateLimit\.mints" is "6"/],
  [{ rateLimit: { timeWindow: 'soon' } }, /"rateLimit\.timeWindow" is "soon", expected milliseconds, or words/],
  [{ rateLimit: { timeWindow: 0 } }, /"rateLimit\.timeWindow" is 0/],
  [{ rateLimit: { window: 1 } }, /unknown option "rateLimit\.window"/],
  [{ route: true }, /"route" is true, expected false, or an object with path/],
  [{ route: { path: 'api' } }, /"route\.path" is "api", expected a path that starts with/],
  [{ audit: false }, /"audit" is false/],
  [{ audit: { stream: '' } }, /"audit\.stream" is ""/],
  [{ audit: { stream: 'tooljet-embed:probe' } }, /"audit\.stream" is "tooljet-embed:probe", expected a key that the plugin does not use for something else/],
  [{ keyPrefix: 'acme:', audit: { stream: 'acme:forgets' } }, /"audit\.stream" is "acme:forgets"/],
  ...['', 'a b', 'a}b', 'a{}b', '{a{b}c', '{a}{b}'].map((stream): [object, RegExp] => [{ audit: { stream } }, /"audit\.stream" is .*, expected a key without white space, and with braces only around a hash tag/]),
  [{ audit: { identity: 'none' } }, /"audit\.identity" is "none", expected 'email' or 'hmac'/],
  [{ audit: { functions: 'yes' } }, /"audit\.functions" is "yes", expected true or false/],
  [{ audit: { retentionDays: -1 } }, /"audit\.retentionDays" is -1/],
  [{ audit: { maxEntries: 1.5 } }, /"audit\.maxEntries" is 1\.5/],
  [{ audit: { delivery: 'sometimes' } }, /"audit\.delivery" is "sometimes", expected 'buffered' or 'required'/],
  [{ audit: { logger: console.log } }, /"audit\.logger" is a function, expected a pino logger/],
  [{ metrics: true }, /"metrics" is true, expected an object with registry/],
  [{ metrics: {} }, /"metrics\.registry" is missing, expected a Registry of prom-client/],
  [{ metrics: { registry: null } }, /"metrics\.registry" is null/],
  [{ metrics: { registry: { registerMetric () {} } } }, /"metrics\.registry" is an object, expected a Registry of prom-client/],
  [{ metrics: { registry: {}, path: '/metrics' } }, /unknown option "metrics\.path"/],
  [{ onRedisDown: 'panic' }, /"onRedisDown" is "panic", expected 'serve' or 'fail'/],
  [{ encryptionKey: '' }, /"encryptionKey" is a string \(not shown\), expected a string of at least 16 characters, or a list of such\.$/],
  [{ encryptionKey: 'good-secret-123' }, /"encryptionKey" is a string \(not shown\), expected a string of at least 16/],
  [{ encryptionKey: 12345678 }, /"encryptionKey" is a number \(not shown\)/],
  [{ encryptionKey: [] }, /"encryptionKey" is a list, expected a string of at least 16 characters, or a list of such\.$/],
  [{ encryptionKey: ['good-secret-0123', 'good-secret-123'] }, /"encryptionKey\.1" is a string \(not shown\)/],
  [{ patexpiry: 5 }, /unknown option "patexpiry", expected one of tooljet, redis/],
  [{ patExpiry: null }, /"patExpiry" is null/],
]

test('a wrong option is refused by name, with what was expected', async (t) => {
  for (const [options, says] of wrong) {
    const whole = Object.keys(options).length === 0 ? {} : { ...good, ...options }
    const message = refusal(whole)
    t.match(message, says, JSON.stringify(options))
    t.notMatch(message, /secret-token|hunter2|good-secret|memcached|12345678/, 'and no secret is shown')
  }
})

test('the schema knows the options of the type, and no others but Fastify\'s own', async (t) => {
  const known = (options: object): string[] => /expected one of ([\w, ]+)\.$/.exec(refusal({ ...good, ...options }))?.[1]?.split(', ') ?? []
  const options = fieldsOf('plugin/index.ts', 'TooljetEmbedOptions')
  const inner = (parent: string): string[] => options.filter((name) => name.startsWith(`${parent}.`)).map((name) => name.slice(parent.length + 1))
  t.same(known({ nothing: 1 }).sort(), [...options.filter((name) => !name.includes('.')), 'prefix', 'logLevel', 'logSerializers'].sort())
  t.same(known({ tooljet: { ...good.tooljet, nothing: 1 } }).sort(), inner('tooljet').sort())
  for (const parent of ['rateLimit', 'route', 'client', 'audit', 'metrics']) t.same(known({ [parent]: { ...(parent === 'metrics' && { registry: {} }), nothing: 1 } }).sort(), inner(parent).sort(), parent)
})
