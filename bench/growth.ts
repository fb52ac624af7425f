import { asksOf, checkAnswers, firstUsers } from './asks.js'
import { bytesPerUrl, fill } from './fill.js'
import { applyLoad } from './load.js'
import { measure, type Figures } from './measure.js'
import { medians, rotated } from './numbers.js'
import { progress } from './progress.js'
import type { World } from './world.js'
import type { ServerProcess } from './server-process.js'

export interface GrowthResult {
  sizes: { urls: number, median: Figures, rounds: Figures[] }[]
  /** By `MEMORY USAGE` of the hash of a user with one URL. */
  bytesPerUrl: number
  /** By how much Redis's memory grew from the smallest size to the largest, for each URL: hash tables too. */
  grownPerUrl: number
}

/** Longer than the run. */
const LIFE_SECONDS = 3600

/** A Redis for each number of cached URLs, with servers that are loaded in turn; as many users ask at every size. */
export function growth (world: World, toolJet: ServerProcess): Promise<GrowthResult> {
  const { sizes, serversEach, askedUsers, rounds, seconds } = world.plan.growth
  return world.during(async (inner) => {
    const load = { connections: world.plan.connections, seconds, folder: inner.folder }
    const entries = []
    for (const urls of sizes) {
      const redis = await inner.startRedis()
      const filled = { redis, toolJetUrl: toolJet.url, prefix: 'growth:' }
      await fill(filled, firstUsers(urls), LIFE_SECONDS)
      const memory = Number(/^used_memory:(\d+)/m.exec(await redis.client.info('memory'))![1])
      const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: filled.prefix }
      const servers = await Promise.all(Array.from({ length: serversEach }, () => inner.startServer('ours', settings)))
      const asks = asksOf(firstUsers(askedUsers).map((i) => i * urls / askedUsers))
      for (const { url } of servers) await checkAnswers(url, asks)
      entries.push({ urls, redis, servers, toolJet, asks, memory, filled, rounds: [] as Figures[] })
      progress(`growth: ${urls} URLs are cached`)
    }
    // not before all are filled: a process that had nothing to do for a while has to warm up again
    if (world.plan.warmUpSeconds > 0) {
      for (const { servers, asks } of entries) for (const { url } of servers) await applyLoad({ url, asks, ...load })
    }
    for (let round = 0; round < rounds; round++) {
      for (const { servers, ...entry } of rotated(entries, round)) {
        entry.rounds.push(await measure({ ...entry, server: servers[round % serversEach]! }, load))
      }
      progress(`growth: round ${round + 1} of ${rounds}`)
    }

    const [smallest, largest] = [entries[0]!, entries.at(-1)!]
    return {
      sizes: entries.map(({ urls, rounds }) => ({ urls, median: medians(rounds), rounds })),
      bytesPerUrl: await bytesPerUrl(smallest.filled, firstUsers(askedUsers)),
      grownPerUrl: (largest.memory - smallest.memory) / (largest.urls - smallest.urls),
    }
  })
}
