import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { ask, asksOf, checkAnswer, firstUsers, type Ask } from './asks.js'
import { fill } from './fill.js'
import { percentile } from './numbers.js'
import type { World } from './world.js'

/** ToolJet's documented limit. */
const MINTS_PER_MINUTE = 10
/** The URLs of one morning are good on the next. */
const LIFE_SECONDS = 36 * 3600

interface Morning {
  /** Users whose first ask was answered with a URL. */
  atOnce: number
  /** Users with a URL at the end of each minute. */
  servedByMinute: number[]
  mints: number
  /** Calls that ToolJet refused. */
  refusedByToolJet: number
  /** Of any answer, ms. */
  p50: number
  p99: number
}

export interface MondayResult {
  users: number
  /** What stands for ToolJet's minute in this run, ms. */
  minuteMs: number
  first: Morning
  /** From how many were served in a minute after the first: until the last one is, in ToolJet's minutes. */
  minutesUntilAllAreServed: number
  second: Morning
}

/**
 * All users of a portal come within one minute, each as often as the answer says, against ToolJet's limit; a minute
 * of ToolJet's, of the rate limit and of the users is short here. Then the same on the next morning, when those who
 * were still waiting have got their URLs too: these come out of the plugin's store, and not out of a night's waiting.
 */
export function monday (world: World): Promise<MondayResult> {
  const { users, minuteMs, minutes } = world.plan.monday
  return world.during(async (inner) => {
    const redis = await inner.startRedis()
    const toolJet = await inner.startServer('tooljet', { toolJet: { latencyMs: 50, mintsPerMinute: MINTS_PER_MINUTE, minuteMs } })
    const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: 'monday:' }
    const server = await inner.startServer('ours', {
      ...settings, logLevel: 'silent', options: { patExpiry: LIFE_SECONDS, rateLimit: { timeWindow: minuteMs } },
    })
    const pool = new Pool(server.url, { connections: world.plan.connections })
    inner.onStop(() => pool.destroy())
    const asks = asksOf(firstUsers(users))

    const morning = async (lasts: number): Promise<Morning & { served: Set<number> }> => {
      const before = { mints: await toolJet.figure('mints'), refusals: await toolJet.figure('refusals') }
      const start = performance.now()
      const end = start + lasts * minuteMs
      const times: number[] = []
      const servedAt = new Map<number, number>() // user: minute
      let atOnce = 0
      await Promise.all(asks.map(async (each, user) => {
        await sleep(Math.random() * minuteMs)
        for (let tries = 1; tries === 1 || performance.now() < end; tries++) {
          const waitSeconds = await askOnce(server.url, each, pool, times)
          if (waitSeconds === 0) {
            servedAt.set(user, Math.min(Math.floor((performance.now() - start) / minuteMs), lasts - 1))
            if (tries === 1) atOnce++
            return
          }
          await sleep(Math.min(waitSeconds * 1000 + Math.random() * minuteMs / 10, Math.max(0, end - performance.now())))
        }
      }))
      return {
        atOnce,
        servedByMinute: Array.from({ length: lasts }, (_, minute) => [...servedAt.values()].filter((at) => at <= minute).length),
        mints: await toolJet.figure('mints') - before.mints,
        refusedByToolJet: await toolJet.figure('refusals') - before.refusals,
        p50: percentile(times, 50),
        p99: percentile(times, 99),
        served: new Set(servedAt.keys()),
      }
    }

    const { served, ...first } = await morning(minutes)
    const [early, late] = [first.servedByMinute[0]!, first.servedByMinute.at(-1)!]
    const perMinute = (late - early) / (minutes - 1)
    await fill({ redis, ...settings }, firstUsers(users).filter((user) => !served.has(user)), LIFE_SECONDS)
    const { served: _, ...second } = await morning(1)
    return { users, minuteMs, first, minutesUntilAllAreServed: minutes + (users - late) / perMinute, second }
  })
}

/** @returns seconds after which to ask again; 0 with a URL */
async function askOnce (url: string, each: Ask, dispatcher: Pool, times: number[]): Promise<number> {
  const start = performance.now()
  const answer = await ask(url, each, dispatcher)
  times.push(performance.now() - start)
  if (answer.status === 429) return Math.max(1, answer.retryAfter)
  checkAnswer(each, answer)
  return 0
}
