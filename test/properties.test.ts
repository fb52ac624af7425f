import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { t as tap, test } from 'tap'
import { errorCodes, type TooljetEmbedOptions } from '../plugin/index.js'
import { normalizeEmail } from '../plugin/access/identity.js'
import { resolveOptions } from '../plugin/config/options.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { ANA, API_TOKEN, Portal, releaseRedisAfter, SALES } from './support/portal.js'

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

test('one spelling for one person, and the same again', async (t) => {
  fc.assert(fc.property(fc.emailAddress(), fc.boolean(), (email, shout) => {
    const once = normalizeEmail(` ${shout ? email.toUpperCase() : email}\t`)
    return once === normalizeEmail(once) && once === normalizeEmail(email)
  }))
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => {
    const ascii = /^[\x00-\x7f]*$/ // eslint-disable-line no-control-regex
    return ascii.test(text.trim()) || !ascii.test(normalizeEmail(text))
  }), { numRuns: 2000 })
  t.pass()
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
