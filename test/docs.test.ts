import { execFile, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { promisify } from 'node:util'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { OPTIONS } from '../plugin/cli/options.js'
import { Child, freePorts } from './support/child.js'
import { anchorsOf, blocksOf, DOCS, file, linksOf, ROOT, rowsOf, sectionOf, type Block } from './support/markdown.js'
import { plainEnv } from './support/plain-env.js'
import { ANA, API_TOKEN, JWT_SECRET, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { fieldsOf, typeCheck } from './support/type-check.js'

/*
 * README and docs say what is true: every block compiles, parses or runs, here or in another test that is named below;
 * every link leads somewhere; tables name what there is.
 */

releaseRedisAfter(tap)

const blocks = DOCS.flatMap(blocksOf)
const HELPERS = 'test/support/README.md'

/** Blocks that are run elsewhere: how they begin, and what there shows it. */
const ELSEWHERE: Array<[doc: string, start: string, runner: string, what: string]> = [
  ['README.md', 'npm ci && npm start', 'test/example.test.ts', 'npm start: two portals share sessions and URLs'],
  ['README.md', 'npm ci && npm run example:spa', 'test/example-spa.test.ts', 'npm run example:spa starts all of it'],
  ['README.md', 'npm ci && npm test', '.ci/run', 'npm test'],
  ['README.md', 'npm install ./fastify-tooljet-embed', 'test/package/run.ts', "install('alone', tarball)"],
  ['README.md', '# who opened the payroll app', 'test/recipes.test.ts', "'README.md'"],
  ['docs/audit.md', 'redis-cli ', 'test/recipes.test.ts', "'docs/audit.md'"],
  ['docs/audit.md', 'node_modules/.bin/tooljet-embed-audit ', 'test/recipes.test.ts', "'docs/audit.md'"],
  ['docs/audit.md', 'sources:', 'test/cli.test.ts', 'the settings of Vector and Filebeat in docs/audit.md name files and fields that there are'],
  ['docs/audit.md', 'filebeat.inputs:', 'test/cli.test.ts', 'the settings of Vector and Filebeat in docs/audit.md name files and fields that there are'],
  ['docs/operations.md', 'printf ', 'test/cli-warm.test.ts', 'docs/operations.md: the commands run as they are written'],
  ['docs/doctor.md', '# address, token', 'test/cli-doctor.test.ts', 'docs/doctor.md: the commands run as they are written'],
  ['docs/metrics.md', 'groups:', 'test/metrics.test.ts', 'docs/metrics.md: its code runs, its table and its alerts name what there is'],
]

/** Blocks of a language that are checked here. */
function ofLanguage (...languages: string[]): Block[] {
  return blocks.filter(({ language }) => languages.includes(language))
}

/** The block of a page that has this text. */
function blockWith (doc: string, text: string): Block {
  const found = blocks.filter((block) => block.doc === doc && block.code.includes(text))
  if (found.length !== 1) throw new Error(`${found.length} blocks of ${doc} have "${text}"`)
  return found[0]!
}

test('README is short; each block is of a kind that is checked here, or is run elsewhere', async (t) => {
  t.ok(file('README.md').split('\n').length < 400)
  t.ok(blocks.length > 25)
  const checkedHere = ['ts', 'tsx', 'js', 'json', 'html', 'mermaid', 'conf']
  const runHere = [blockWith('docs/tooljet.md', 'TOOLJET_URL='), blockWith('docs/migration.md', 'ask ()'), blockWith('docs/audit.md', 'cookies.txt')]
  const used = new Set<string>()
  for (const block of blocks) {
    if (checkedHere.includes(block.language) || runHere.includes(block)) continue
    const elsewhere = ['sh', 'yaml'].includes(block.language) ? ELSEWHERE.find(([doc, start]) => doc === block.doc && block.code.startsWith(start)) : undefined
    t.ok(elsewhere, `${block.at}: a block of ${block.language || 'no language'}`)
    if (elsewhere !== undefined) used.add(elsewhere.join())
  }
  t.same(ELSEWHERE.filter((row) => !used.has(row.join())), [], 'nothing else is listed')
  for (const [, , runner, what] of ELSEWHERE) t.ok(file(runner).includes(what), `${runner}: ${what}`)
})

test('TypeScript and JavaScript compile', { timeout: 120_000 }, async (t) => {
  const code = ofLanguage('ts', 'tsx', 'js')
  t.ok(code.length > 15)
  const wrong = [
    { doc: '', at: 'wrong', language: 'ts', code: 'export const wrong: string = 1' },
    { doc: '', at: 'wrong', language: 'js', code: "import tooljetEmbed from 'fastify-tooljet-embed'\ntooljetEmbed.nothing()" },
  ]
  const found = typeCheck([...code, ...wrong])
  t.match(found.filter((line) => line.startsWith('wrong')), [/is not assignable/, /'nothing' does not exist/])
  t.same(found.filter((line) => !line.startsWith('wrong')), [])
})

test('hosts are those that run: in example/, and from the tarball', async (t) => {
  t.equal(blockWith('README.md', 'const app = Fastify({ logger: true })').code, file('example/minimal.ts'))
  t.equal(blockWith('docs/hosts.md', 'export const autoConfig').code, file('test/package/hosts/cli/plugins/tooljet-embed.js'))
})

test('JSON is what the route answers with', async (t) => {
  for (const { at, code } of ofLanguage('json')) {
    const reply = JSON.parse(code) as Record<string, unknown>
    const fields = 'code' in reply ? ['statusCode', 'code', 'error', 'message', 'retryAfter', 'queue'] : fieldsOf('plugin/index.ts', 'TooljetEmbedUrl')
    t.same(Object.keys(reply).sort(), fields.sort(), at)
    if ('queue' in reply) t.same(Object.keys(reply['queue'] as object), fieldsOf('plugin/index.ts', 'QueuePosition'))
  }
  t.equal(ofLanguage('json').length, 2)
})

const ATTRIBUTE = /([^\s=]+)="([^"]*)"/g

test('HTML is well-formed, and its element is known', async (t) => {
  const attributes = fieldsOf('plugin/browser/index.ts', 'TooljetEmbedAttributes').filter((name) => !name.includes('.'))
  const events = fieldsOf('plugin/browser/index.ts', 'TooljetEmbedEventMap')
  for (const { at, code } of ofLanguage('html')) {
    const left = code.replace(/<([a-z-]+)((?: [^\s=]+="[^"]*")*)><\/\1>/g, (_, tag: string, written: string) => {
      for (const [, name, value] of written.matchAll(ATTRIBUTE)) {
        if (tag === 'script') t.ok(['type module', 'src /tooljet-embed.js'].includes(`${name} ${value}`), `${at}: ${name}`)
        else if (/^[@(]/.test(name!)) t.ok(events.includes(name!.replace(/\W/g, '')), `${at}: ${name}`)
        else t.ok(attributes.includes(name!.replace(/^:|\.prop$|^\[|\]$/g, '')), `${at}: ${name}`)
      }
      t.ok(['script', 'tooljet-embed'].includes(tag), `${at}: ${tag}`)
      return ''
    })
    t.equal(left.trim(), '', `${at}: all of it are elements, and closed`)
  }
  for (const name of [...attributes, ...events]) t.ok(file('docs/client.md').includes(`\`${name}`), `docs/client.md tells of ${name}`)
})

const STATEMENT = /^(?:participant (\w+) as [^;#]+|Note over (\w+)(?:,(\w+))?: [^;#]+|(\w+)(?:->>|-->>|-\)|--\))(\w+): [^;#]+|(?:alt|else|opt|loop|par|and)(?: [^;#]+)?|end)$/

test('diagrams are sequence diagrams: participants are declared, blocks end', async (t) => {
  const diagrams = ofLanguage('mermaid')
  t.equal(diagrams.length, 4, 'one in the README; hit, miss and dead URL')
  for (const { at, code } of diagrams) {
    const [first, ...lines] = code.trimEnd().split('\n').map((line) => line.trim())
    t.equal(first, 'sequenceDiagram', at)
    const known = new Set<string>()
    const open: string[] = []
    for (const line of lines) {
      const [match, declared, over, until, from, to] = STATEMENT.exec(line) ?? []
      t.ok(match, `${at}: ${line}`)
      if (declared !== undefined) known.add(declared)
      for (const name of [over, until, from, to]) if (name !== undefined) t.ok(known.has(name), `${at}: ${name}`)
      const [word] = line.split(' ')
      if (['alt', 'opt', 'loop', 'par'].includes(word!)) open.push(word!)
      if (word === 'else') t.equal(open.at(-1), 'alt', at)
      if (word === 'and') t.equal(open.at(-1), 'par', at)
      if (word === 'end') t.ok(open.pop(), at)
    }
    t.same(open, [], `${at}: each block ends`)
  }
})

test('links lead somewhere', async (t) => {
  const decisions = readdirSync(join(ROOT, 'docs/decisions')).map((name) => `docs/decisions/${name}`)
  for (const doc of [...DOCS, ...decisions, 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/README.md', HELPERS]) {
    for (const link of linksOf(doc).filter((link) => !/^https?:/.test(link))) {
      const [path, anchor] = link.split('#') as [string, string?]
      const target = path === '' ? doc : normalize(join(dirname(doc), path))
      t.ok(existsSync(join(ROOT, target)), `${doc}: ${link}`)
      if (anchor !== undefined) t.ok(anchorsOf(target).includes(anchor), `${doc}: ${link}`)
    }
  }
  for (const doc of DOCS.slice(1)) t.ok(linksOf('README.md').includes(doc), `README leads to ${doc}`)
  for (const doc of decisions) t.ok(linksOf('CONTRIBUTING.md').includes(doc), `CONTRIBUTING leads to ${doc}`)
  for (const image of readdirSync(join(ROOT, 'docs/images'))) t.match(file('README.md'), new RegExp(`!\\[[^\\]]{20,}\\]\\(docs/images/${image}\\)`), `${image} is shown, and told in words`)
})

test('the page about the helpers of the tests names each of them, and its example is a test that runs', async (t) => {
  const rows = rowsOf(sectionOf(HELPERS, '## Files')).filter(([cell]) => cell!.startsWith('`'))
  t.same(rows.map(([cell]) => cell!.replaceAll('`', '')).sort(), readdirSync(join(ROOT, 'test/support')).filter((name) => name !== 'README.md').sort())
  for (const [cell, what] of rows) {
    const code = file(`test/support/${cell!.replaceAll('`', '')}`)
    for (const [, name] of what!.matchAll(/`(\w+)(?:\(\))?`/g)) t.match(code, new RegExp(`\\b${name}\\b`), `${cell}: ${name}`)
  }
  const [example] = blocksOf(HELPERS)
  t.ok(file('test/reuse.test.ts').includes(example!.code))
})

test('each threat has tests, which exist', async (t) => {
  const namesIn = (path: string): string[] => Array.from(file(path).matchAll(/(?:\btest\(|^ {4}name: )(['"`])((?:\\.|(?!\1).)*)\1/gm), ([, , name]) => name!.replace(/\\(.)/g, '$1'))
  const rows = rowsOf(sectionOf('docs/security.md', '## Threats'))
  t.ok(rows.length >= 15)
  for (const [threat, , tests] of rows) {
    const named = [...tests!.matchAll(/\[([\w-]+\.test\.ts)\]\(\.\.\/test\/\1\): (.+?)(?=<br>|$)/g)]
    t.equal(named.length, tests!.split('<br>').length, threat!)
    for (const [, path, name] of named) t.ok(namesIn(`test/${path}`).includes(name!), `${path}: ${name}`)
  }
})

test('tables of options, log lines and metrics name what there is', async (t) => {
  const told = rowsOf(sectionOf('README.md', '## Options')).map(([option]) => option!.replaceAll('`', ''))
  const fields = fieldsOf('plugin/index.ts', 'TooljetEmbedOptions')
  t.same(told.filter((name) => !fields.includes(name)), [], 'options that are not there')
  const isTold = (name: string): boolean => {
    const [parent] = name.split('.') as [string]
    const inner = told.some((other) => other.startsWith(`${parent}.`))
    return told.includes(name) || (name === parent ? inner : !inner)
  }
  t.same(fields.filter((name) => !isTold(name)), [], 'options that are not told of')

  const lines = readdirSync(join(ROOT, 'plugin'), { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts')).flatMap((path) => (
    [...file(`plugin/${path}`).matchAll(/\blog\.(\w+)\(.*?['`]tooljet-embed: ((?:\\.|[^'`$])+)/g)].map(([, level, line]) => `${line} (${level})`)
  ))
  t.ok(lines.length > 8)
  const rows = rowsOf(sectionOf('docs/operations.md', '## What to alert on').split('\nWithout metrics')[1]!)
  t.same(rows.map(([line, level]) => `${line!.replaceAll('`', '')} (${level})`).sort(), lines.sort())

  const [, choice] = /event = oneOf \{ (.*) \}/.exec(file('plugin/audit/scripts/queries/arguments.lua'))!
  const events = [...choice!.matchAll(/'([\w.]+)'/g)].map(([, event]) => event!)
  t.same(rowsOf(sectionOf('docs/audit.md', '### What each event means')).flatMap(([cell]) => [...cell!.matchAll(/`([\w.]+)`/g)].map(([, event]) => event!)), events)
  t.same([...file('example/portal/pages/audit.html').matchAll(/<option>(\w+\.\w+)<\/option>/g)].map(([, event]) => event!), events)

  t.same(OPTIONS.event.about.split(/, | or /), events)

  const families = new Set(Array.from(file('docs/metrics.md').matchAll(/^\| `(tooljet_embed_\w+)` \|/gm), ([, name]) => name!))
  for (const [name] of file('docs/operations.md').matchAll(/tooljet_embed_\w+/g)) t.ok(families.has(name), name)
})

test('Redis takes the settings of docs/operations.md, which evict nothing', async (t) => {
  const [settings, ...others] = ofLanguage('conf')
  t.equal(others.length, 0)
  const server = await startServer({ args: settings!.code.trim().split('\n').flatMap((line) => `--${line}`.split(' ')) })
  const redis = newClient(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  t.same(await redis.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction'])
  t.match(await redis.info('persistence'), 'aof_enabled:1')
})

async function ownWorld (t: Test, toolJet: ConstructorParameters<typeof ToolJetStandIn>[0]) {
  const server = await startServer()
  t.teardown(() => server.stop())
  const standIn = await new ToolJetStandIn(toolJet).listen()
  t.teardown(() => standIn.close())
  return { redisUrl: server.url, toolJet: standIn, port: await freePorts(1) }
}

const HAS_CURL = spawnSync('curl', ['--version']).status === 0

test('docs/migration.md: the host runs, and the checks give the statuses that they tell', { timeout: 60_000, skip: !HAS_CURL && 'there is no curl on this machine' }, async (t) => {
  const { redisUrl, toolJet, port } = await ownWorld(t, { apiToken: API_TOKEN })
  const folder = t.testdir({ 'host.ts': blockWith('docs/migration.md', 'const app = Fastify').code })
  const child = Child.start(t, ['--import', 'tsx', `${folder}/host.ts`], { PORT: String(port), TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: redisUrl, JWT_SECRET })
  await child.prints('Server listening')
  const signer = Fastify()
  t.teardown(() => signer.close())
  await signer.register(fastifyJwt, { secret: JWT_SECRET })

  const { code } = blockWith('docs/migration.md', 'ask ()')
  const script = code.replace('localhost:3001', `localhost:${port}`)
  const { stdout } = await promisify(execFile)('bash', ['-euc', script], { env: { ...plainEnv(), TOKEN: signer.jwt.sign({ email: ANA }) } })
  t.same(stdout.trim().split('\n'), Array.from(code.matchAll(/# (\d{3})$/gm), ([, status]) => status))
  t.same(toolJet.calls.map(({ body }) => [body['email'], body['appId']]), [[ANA, SALES.id]])

  const snippet = blockWith('docs/migration.md', 'iframe.src').code.replace("'/api/", `'http://localhost:${port}/api/`)
    .replace('headers: {', `headers: { authorization: 'Bearer ${signer.jwt.sign({ email: ANA })}',`)
  const run = new Function('iframe', 'email', 'appId', `return (async () => {\n${snippet}\n})()`) as (iframe: { src?: string }, email: string, appId: string) => Promise<void> // eslint-disable-line no-new-func
  const iframe: { src?: string } = {}
  await run(iframe, ANA, SALES.id)
  t.match(toolJet.tokenOf(iframe.src!), { email: ANA, appId: SALES.id }, "ToolJet's snippet works as it is")
})

test('docs/audit.md: the demo is signed in to by curl, and its log is verified with its key', { timeout: 60_000, skip: !HAS_CURL && 'there is no curl on this machine' }, async (t) => {
  const { redisUrl, port } = await ownWorld(t, { apiToken: API_TOKEN })
  const child = Child.start(t, ['--import', 'tsx', 'example/start.ts'], { PORT: String(port), REDIS_URL: redisUrl })
  await child.prints('Ctrl-C stops all of it.')
  const { code } = blockWith('docs/audit.md', 'cookies.txt')
  const script = code.replaceAll('localhost:3001', `localhost:${port}`).replaceAll('cookies.txt', `${t.testdir({})}/cookies.txt`)
  const { stdout } = await promisify(execFile)('bash', ['-euc', script], { cwd: ROOT, env: { ...plainEnv(), REDIS_URL: redisUrl } })
  t.match(stdout, /"source":"minted"[^]*url\.minted +ana@acme\.test +sales[^]*\nintact/)
})

test('docs/tooljet.md: the example runs with another ToolJet', { timeout: 60_000 }, async (t) => {
  const { code } = blockWith('docs/tooljet.md', 'TOOLJET_URL=')
  t.match(code, / npm start\n$/)
  const env = Object.fromEntries(Array.from(code.matchAll(/([A-Z_]+)=(?:'([^']*)'|(\S+))/g), ([, name, quoted, plain]) => [name!, quoted ?? plain!]))
  const [user] = env['DEMO_USERS']!.split(',') as [string]
  const { redisUrl, toolJet, port } = await ownWorld(t, { apiToken: env['TOOLJET_API_TOKEN']!, seed: { apps: [SALES], users: [{ email: user, apps: [SALES.slug] }] } })
  const child = Child.start(t, ['--import', 'tsx', 'example/start.ts'], { ...env, TOOLJET_URL: toolJet.url, PORT: String(port), REDIS_URL: redisUrl })
  t.match(await child.prints('Ctrl-C stops all of it.'), user)
  const post = (path: string, body: object, cookie = '') => fetch(`http://localhost:${port}${path}`, { method: 'POST', headers: { 'content-type': 'application/json', cookie }, body: JSON.stringify(body) })
  const cookie = (await post('/sign-in', { email: user })).headers.get('set-cookie')!.split(';')[0]!
  const { redirectUrl } = await (await post('/api/get-tooljet-url', { appId: env['TOOLJET_APP_ID'] }, cookie)).json() as { redirectUrl: string }
  t.match(toolJet.tokenOf(redirectUrl), { email: user, appId: SALES.id })
})
