import { requestsOf, checkAnswers, firstUsers } from './requests.js'
import { bytesPerUrl, seedCache } from './seed-cache.js'
import { applyLoad } from './load.js'
import { measure, type Figures } from './measure.js'
import { medians, rotated } from './statistics.js'
import { progress } from './progress.js'
import type { Environment } from './environment.js'
import type { ServerProcess } from './server-process.js'

export interface CacheSizeResult {
  sizes: { urls: number, median: Figures, rounds: Figures[] }[]
  /** By `MEMORY USAGE` of the hash of a user with one URL. */
  bytesPerUrl: number
  /** By how much Redis's memory grew from the smallest size to the largest, for each URL: hash tables too. */
  grownPerUrl: number
}

/** Longer than the run. */
const LIFE_SECONDS = 3600

/** A Redis for each number of cached URLs, with servers that are loaded in turn; the same number of users is active at every size. */
export function cacheSize (environment: Environment, toolJet: ServerProcess): Promise<CacheSizeResult> {
  const { sizes, serversEach, activeUsers, rounds, seconds } = environment.plan.cacheSize
  return environment.withScope(async (inner) => {
    const load = { connections: environment.plan.connections, seconds, folder: inner.folder }
    const entries = []
    for (const urls of sizes) {
      const redis = await inner.startRedis()
      const seeded = { redis, toolJetUrl: toolJet.url, prefix: 'cache-size:' }
      await seedCache(seeded, firstUsers(urls), LIFE_SECONDS)
      const memory = Number(/^used_memory:(\d+)/m.exec(await redis.client.info('memory'))![1])
      const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: seeded.prefix }
      const servers = await Promise.all(Array.from({ length: serversEach }, () => inner.startServer('plugin', settings)))
      const requests = requestsOf(firstUsers(activeUsers).map((i) => i * urls / activeUsers))
      for (const { url } of servers) await checkAnswers(url, requests)
      entries.push({ urls, redis, masters: [redis], servers, toolJet, requests, memory, seeded, rounds: [] as Figures[] })
      progress(`cache size: ${urls} URLs are cached`)
    }
    // after all are seeded: an idle process has to warm up again
    if (environment.plan.warmUpSeconds > 0) {
      for (const { servers, requests } of entries) for (const { url } of servers) await applyLoad({ url, requests, ...load })
    }
    for (let round = 0; round < rounds; round++) {
      for (const { servers, ...entry } of rotated(entries, round)) {
        entry.rounds.push(await measure({ ...entry, server: servers[round % serversEach]! }, load))
      }
      progress(`cache size: round ${round + 1} of ${rounds}`)
    }

    const [smallest, largest] = [entries[0]!, entries.at(-1)!]
    return {
      sizes: entries.map(({ urls, rounds }) => ({ urls, median: medians(rounds), rounds })),
      bytesPerUrl: await bytesPerUrl(smallest.seeded, firstUsers(activeUsers)),
      grownPerUrl: (largest.memory - smallest.memory) / (largest.urls - smallest.urls),
    }
  })
}
