import { randomBytes } from 'node:crypto'
import { pino } from 'pino'
import { makeApp } from '../plugin/access/apps.js'
import { userKeys } from '../plugin/redis/user-keys.js'
import { openCache } from '../plugin/cache/open.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { KeyNames } from '../plugin/crypto/names.js'
import { deriveSecretKeys } from '../plugin/crypto/secret-keys.js'
import { systemTimers } from '../plugin/timers.js'
import { emailOf } from './requests.js'
import { markOf, SALES } from './servers/token-mark.js'
import { API_TOKEN, type BenchRedis } from './environment.js'

const AT_ONCE = 512

/** What the key names and ciphertexts of URLs depend on. */
export interface SeededCache {
  redis: BenchRedis
  toolJetUrl: string
  prefix: string
}

/**
 * Caches a URL for each user through the plugin's own store, under both names of the app as after a mint: the servers
 * find it, and do not call ToolJet.
 */
export async function seedCache ({ redis, toolJetUrl, prefix }: SeededCache, users: readonly number[], lifeSeconds: number): Promise<void> {
  const log = pino({ level: 'warn' })
  const secretKeys = await deriveSecretKeys(API_TOKEN)
  const { store, start, close } = openCache(
    { redis: redis.client, address: redis.url },
    { keyPrefix: prefix, redisTimeoutMs: 60_000, limitWindowMs: 60_000, longestPatExpiry: lifeSeconds, serveWithoutRedis: false },
    { encryptor: new Encryptor([secretKeys.keyFor('urls')]), timers: systemTimers, log }
  )
  await start()
  const names = new KeyNames(secretKeys.keyFor('key names'), toolJetUrl)
  const app = makeApp({ appId: SALES }, { patExpiry: lifeSeconds, sessionExpiry: 60, minRemaining: 60 })

  const caches = async (user: number): Promise<void> => {
    const email = emailOf(user)
    const token = `pat_${markOf(email)}${randomBytes(8).toString('hex')}`
    const outcome = await store.store(names.userHash(email), app, {
      redirectUrl: `${toolJetUrl}/embed-apps/${SALES}?personal-access-token=${token}&appSlug=sales`,
      urlId: randomBytes(12).toString('base64url'),
      names: [app.key, 'slug:sales'],
      bornAt: systemTimers.now(),
      lifeMs: lifeSeconds * 1000,
      startsAt: undefined,
    })
    if (outcome !== 'stored') throw new Error(`the URL of ${email} was not stored`)
  }
  for (let i = 0; i < users.length; i += AT_ONCE) await Promise.all(users.slice(i, i + AT_ONCE).map(caches))
  close()
}

/** Bytes of a user's hash with one URL under both names of its app, by `MEMORY USAGE`. */
export async function bytesPerUrl ({ redis, toolJetUrl, prefix }: SeededCache, users: readonly number[]): Promise<number> {
  const names = new KeyNames((await deriveSecretKeys(API_TOKEN)).keyFor('key names'), toolJetUrl)
  const usages = await Promise.all(users.map((user) => redis.client.memory('USAGE', userKeys(prefix, names.userHash(emailOf(user))).urls, 'SAMPLES', 0)))
  return usages.reduce<number>((sum, bytes) => sum + Number(bytes), 0) / users.length
}
