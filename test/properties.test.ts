import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { t as tap, test } from 'tap'
import { errorCodes, type TooljetEmbedOptions } from '../plugin/index.js'
import { normalizeEmail, parseEmail } from '../plugin/access/identity.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import { loadLibrary, QUERIES } from '../plugin/audit/functions.js'
import { Pseudonyms } from '../plugin/audit/pseudonyms.js'
import { resolveOptions } from '../plugin/config/options.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { KeyNames } from '../plugin/crypto/names.js'
import { entriesOf, writeEvents } from './support/audit-log.js'
import { ANA, API_TOKEN, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'

releaseRedisAfter(tap)

const names = ['appId', 'appSlug', 'app', 'email', 'replaces', '__proto__', 'constructor', 'x']

/** `RUNS=100000 node --import tsx test/properties.test.ts` for a long one. */
const RUNS = Number(process.env['RUNS'] ?? 1500)

test('no body, header or query makes a 5xx, or gets a URL of somebody else', { timeout: 3_600_000 }, async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  portal.toolJet.faults = ({ body }) => {
    if (body['email'] !== ANA) t.fail(`asked for ${String(body['email'])}`)
    return undefined
  }
  const value = fc.oneof(fc.constant(SALES.id), fc.constant('sales'), fc.constant(ANA), fc.string(), fc.string({ unit: 'binary' }), fc.jsonValue(), fc.emailAddress())
  const body = fc.oneof(fc.dictionary(fc.constantFrom(...names), value), fc.jsonValue()).map((json) => JSON.stringify(json))
  const payloads = fc.oneof({ weight: 9, arbitrary: body }, { weight: 1, arbitrary: fc.string() })
  const headers = fc.dictionary(fc.constantFrom('user-agent', 'x-forwarded-for', 'x-request-id', 'accept', 'content-type', 'cookie', 'referer', 'x-any'), fc.stringMatching(/^[\x21-\x7e]{0,40}$/), { maxKeys: 2 })
  const queries = fc.dictionary(fc.constantFrom(...names), fc.string(), { maxKeys: 2 }).map((query) => new URLSearchParams(query).toString())
  const token = portal.bearer(ANA).authorization
  await fc.assert(fc.asyncProperty(payloads, headers, queries, async (payload, headers, query) => {
    const reply = await portal.app.inject({ method: 'POST', url: `/api/get-tooljet-url?${query}`, payload, headers: { 'content-type': 'application/json', ...headers, authorization: token } })
    const { statusCode: status } = reply
    if (![200, 400, 403, 404, 415].includes(status)) throw new Error(`${status} ${reply.body}`)
    if (status === 200 && portal.toolJet.tokenOf(reply.json<{ redirectUrl: string }>().redirectUrl)?.email !== ANA) throw new Error('a foreign URL')
    const secrets = [token.slice(7), API_TOKEN, 'personal-access-token=']
    if (secrets.some((secret) => portal.logText.includes(secret))) throw new Error('a secret in the log')
    portal.forgetLog()
  }), { numRuns: RUNS })
})

test('options are refused with a coded error or accepted whole, and no secret is shown', async (t) => {
  const good = { tooljet: { url: 'http://tooljet.test', apiToken: 'very-secret-token' }, redis: 'redis://:hunter2hunter2@127.0.0.1' }
  const odd = fc.oneof(fc.jsonValue(), fc.constantFrom(NaN, Infinity, -1, 0, 2 ** 53, '', null, undefined, () => 1, Symbol('x'), 10n, new Date(0), []))
  const keys = ['tooljet', 'redisTimeoutMs', 'keyPrefix', 'apps', 'patExpiry', 'sessionExpiry', 'minRemaining', 'authenticate', 'identity', 'authorize', 'rateLimit', 'route', 'audit', 'onRedisDown', 'encryptionKey', 'unknown']
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...keys), odd, { maxKeys: 3 }), (options) => {
    try {
      resolveOptions({ ...good, ...options } as unknown as TooljetEmbedOptions)
    } catch (error) {
      if (!(error instanceof errorCodes.TOOLJET_EMBED_OPTIONS)) throw error
      if (/very-secret|hunter2/.test(error.message)) throw new Error('a secret is shown')
    }
  }), { numRuns: 3000 })
  t.pass()
})

/** Letters that fold into one another somewhere, white space of every kind, forms of one letter: what two accounts may differ by. */
const ODD = ['a', 'A', 'k', 'K', '\u212A', 'i', 'I', '\u0130', '\u0131', '\u00E5', '\u00C5', '\u212B', 'A\u030A', '\u00DF', '\u1E9E', '\u03C3', '\u03C2', '\u03A3', '\uFB01', '\u{1F600}', '\u{10400}', '\u{10428}', '-', '.', '+']
const SPACES = [' ', '\t', '\n', '\v', '\f', '\r', '\u0085', '\u00A0', '\u1680', '\u2003', '\u2028', '\u202F', '\u3000', '\uFEFF', '\u200B', '\u180E']
const oddEmails = fc.tuple(
  fc.array(fc.constantFrom(...SPACES), { maxLength: 2 }), fc.array(fc.constantFrom(...ODD), { minLength: 1, maxLength: 4 }),
  fc.array(fc.constantFrom(...ODD), { minLength: 1, maxLength: 3 }), fc.array(fc.constantFrom(...SPACES), { maxLength: 2 })
).map(([before, name, domain, after]) => `${before.join('')}${name.join('')}@${domain.join('')}${after.join('')}`)

/** The rule, said in another way. */
function isSamePerson (one: string, other: string): boolean {
  const plain = (email: string): string => /^[\t\n\v\f\r ]*([^]*?)[\t\n\v\f\r ]*$/.exec(email)![1]!
  const [a, b] = [[...plain(one)], [...plain(other)]]
  return a.length === b.length && a.every((letter, i) => letter === b[i] || (/^[a-z]{2}$/i.test(`${letter}${b[i]}`) && Math.abs(letter.charCodeAt(0) - b[i]!.charCodeAt(0)) === 32))
}

test('one spelling for one person, and the same again', async (t) => {
  fc.assert(fc.property(fc.emailAddress(), fc.boolean(), (email, shout) => {
    const once = normalizeEmail(` ${shout ? email.toUpperCase() : email}\t`)
    return once === normalizeEmail(once) && once === normalizeEmail(email)
  }))
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => {
    const ascii = /^[\x00-\x7f]*$/ // eslint-disable-line no-control-regex
    return ascii.test(text) === ascii.test(normalizeEmail(text))
  }), { numRuns: 2000 })
  const before = process.cpuUsage()
  normalizeEmail(`a${' '.repeat(1_000_000)}a`)
  t.ok(process.cpuUsage(before).user < 1_000_000, 'whatever a client sends')
})

test('two e-mails are one person only when they differ by ASCII case and ASCII white space around, and else share no key', async (t) => {
  const keys = new KeyNames(randomBytes(32), 'http://tooljet.test')
  const pseudonyms = new Pseudonyms([randomBytes(32)])
  const indexes = new AuditKeys('audit')
  const judge = (one: string, other: string): boolean => {
    const same = isSamePerson(one, other)
    if (same !== (normalizeEmail(one) === normalizeEmail(other))) return false
    const [a, b] = [parseEmail(one), parseEmail(other)]
    if (a === undefined || b === undefined) return !same || a === b // refused, both of them
    return same === (keys.userHash(a) === keys.userHash(b)) && same === (indexes.email(a).hash === indexes.email(b).hash) && same === (pseudonyms.of(a) === pseudonyms.of(b))
  }
  const binary = fc.string({ unit: 'binary', minLength: 1, maxLength: 3 })
  const binaryEmails = fc.tuple(binary, binary).map((parts) => parts.join('@'))
  fc.assert(fc.property(oddEmails, oddEmails, judge), { numRuns: RUNS * 10 })
  fc.assert(fc.property(oddEmails, fc.func(fc.boolean()), (email, flip) => { // near ones
    const other = Array.from(email, (letter, i) => (flip(i) ? (letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase()) : letter)).join('')
    return judge(email, other) && judge(email, `\u00A0${email}`) && judge(email, ` ${email}\r\n`) && judge(email, email.normalize('NFC')) && judge(email, email.normalize('NFKC'))
  }), { numRuns: RUNS * 5 })
  fc.assert(fc.property(binaryEmails, binaryEmails, judge), { numRuns: RUNS })
  t.pass()
})

test('two e-mails that are two people are found in the audit log each on its own', { timeout: 600_000 }, async (t) => {
  const redis = newClient(await sharedRedisUrl())
  const prefix = newPrefix()
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, prefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  await loadLibrary(redis)
  const stream = `${prefix}audit`
  const sample = fc.sample(fc.oneof(oddEmails, fc.emailAddress().map((email) => email.toUpperCase()), fc.tuple(fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }), fc.constant('@acme.test')).map((parts) => parts.join(''))), 600)
  const spellings = [...sample, '\u00C5sa@acme.test', '\u212Bsa@acme.test', '\u00E5sa@acme.test', ' \u00C9VA@Acme.Test\t', '\u212Aim@acme.test', 'kim@acme.test', 'KIM@acme.test']
  const accepted = spellings.flatMap((given) => (parseEmail(given) === undefined ? [] : [{ given, email: parseEmail(given)! }]))
  t.ok(accepted.length > 150, `${accepted.length} are addresses`)
  await writeEvents(redis, stream, accepted.length, { make: (seq) => ({ event: 'url.minted', outcome: 'success', email: accepted[seq - 1]!.email }) })
  const written = await entriesOf(redis, stream)
  const ways = [
    (email: string) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', email, 'limit', '250'),
    (email: string) => redis.eval(QUERIES, 1, stream, 'email', email, 'limit', '250'),
  ]
  for (const [i, { given, email }] of accepted.entries()) {
    const expected = written.filter(({ fields }) => accepted[Number(fields['seq']) - 1]!.email === email)
    t.ok(expected.every(({ fields }) => fields['email'] === email), 'as it was given')
    for (const spelling of [given, email, ` ${email.replace(/[a-z]/g, (letter) => letter.toUpperCase())}\v\r\n`]) {
      const [cursor, entries] = await ways[i % 2]!(spelling) as [string, [id: string][]]
      const found = { cursor, ids: entries.map(([id]) => id).reverse() }
      if (!isDeepStrictEqual(found, { cursor: '0-0', ids: expected.map(({ id }) => id) })) t.same(found, expected, JSON.stringify(spelling))
    }
  }
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ' \t'), { message: /argument "email" is " \t", expected a value/ })
})

test('what was encrypted is decrypted under its own name and keys only', async (t) => {
  const [key, another] = [randomBytes(32), randomBytes(32)]
  fc.assert(fc.property(fc.string({ unit: 'binary' }), fc.string(), fc.string(), fc.nat(), (plaintext, boundTo, other, at) => {
    const encryptor = new Encryptor([key])
    const ciphertext = encryptor.encrypt(boundTo, plaintext)
    const changed = Buffer.from(ciphertext)
    changed[at % changed.length]! ^= 1
    return encryptor.decrypt(boundTo, ciphertext) === plaintext &&
      !encryptor.encrypt(boundTo, plaintext).equals(ciphertext) &&
      (boundTo === other || encryptor.decrypt(other, ciphertext) === undefined) &&
      encryptor.decrypt(boundTo, changed) === undefined &&
      encryptor.decrypt(boundTo, ciphertext.subarray(0, at % ciphertext.length)) === undefined &&
      new Encryptor([another]).decrypt(boundTo, ciphertext) === undefined &&
      new Encryptor([another, key]).decrypt(boundTo, ciphertext) === plaintext
  }), { numRuns: 300 })
  t.pass()
})
