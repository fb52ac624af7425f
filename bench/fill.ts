import { randomBytes } from 'node:crypto'
import { pino } from 'pino'
import { FleetClock, timeToMs } from '../plugin/redis/clock.js'
import { RedisGuard } from '../plugin/redis/guard.js'
import { Keys } from '../plugin/cache/keys.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { KeyNames } from '../plugin/crypto/names.js'
import { deriveSecretKeys } from '../plugin/crypto/secret-keys.js'
import { UrlStore } from '../plugin/cache/store.js'
import { emailOf } from './asks.js'
import { markOf, SALES } from './servers/mark.js'
import { API_TOKEN, type BenchRedis } from './world.js'

const AT_ONCE = 512

/** Everything by which a URL's keys are named and its value encrypted. */
export interface Filled {
  redis: BenchRedis
  toolJetUrl: string
  prefix: string
}

/**
 * Caches a URL for each user through the plugin's own store, under both names of the app as after a mint: the servers
 * find it, and no ToolJet is asked.
 */
export async function fill ({ redis, toolJetUrl, prefix }: Filled, users: readonly number[], lifeSeconds: number): Promise<void> {
  const log = pino({ level: 'warn' })
  const guard = new RedisGuard(redis.client, { deadlineMs: 60_000, probeKey: `${prefix}probe` }, log)
  const secretKeys = await deriveSecretKeys(API_TOKEN)
  const keys = new Keys(prefix, new KeyNames(secretKeys.keyFor('key names'), toolJetUrl))
  const store = new UrlStore({ guard, clock: new FleetClock(), keys, encryptor: new Encryptor([secretKeys.keyFor('urls')]), log })
  const expiresAt = timeToMs(await redis.client.time()) + lifeSeconds * 1000

  const caches = async (user: number): Promise<void> => {
    const email = emailOf(user)
    const token = `pat_${markOf(email)}${randomBytes(8).toString('hex')}`
    const hash = keys.userHash(email)
    const stored = await store.store(keys.pair(hash, `id:${SALES}`), [`id:${SALES}`, 'slug:sales'], '', {
      redirectUrl: `${toolJetUrl}/embed-apps/${SALES}?personal-access-token=${token}&appSlug=sales`,
      urlId: randomBytes(12).toString('base64url'),
      expiresAt,
      deadline: performance.now() + lifeSeconds * 1000,
    })
    if (!stored) throw new Error(`the URL of ${email} was not stored`)
  }
  for (let i = 0; i < users.length; i += AT_ONCE) await Promise.all(users.slice(i, i + AT_ONCE).map(caches))
}

/** Of one user's URL, by `MEMORY USAGE`, with the index that leads there from both names of its app. */
export interface UrlBytes {
  url: number
  index: number
  total: number
}

export async function bytesPerUrl ({ redis, toolJetUrl, prefix }: Filled, users: readonly number[]): Promise<UrlBytes> {
  const keys = new Keys(prefix, new KeyNames((await deriveSecretKeys(API_TOKEN)).keyFor('key names'), toolJetUrl))
  const hashes = users.map((user) => keys.userHash(emailOf(user)))
  const indexes = hashes.map((hash) => keys.index(hash))
  const urls = await Promise.all(hashes.map(async (hash, i) => keys.url(hash, (await redis.client.hget(indexes[i]!, 'slug:sales'))!)))
  const mean = async (names: string[]): Promise<number> => {
    const usages = await Promise.all(names.map((name) => redis.client.memory('USAGE', name, 'SAMPLES', 0)))
    return usages.reduce<number>((sum, bytes) => sum + Number(bytes), 0) / users.length
  }
  const [url, index] = [await mean(urls), await mean(indexes)]
  return { url, index, total: url + index }
}
