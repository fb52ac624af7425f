import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { EventSigner } from '../../plugin/audit/signer.js'
import { deriveKeys } from '../../plugin/crypto/secret-keys.js'
import type { TooljetEmbedOptions } from '../../plugin/index.js'
import { API_TOKEN } from '../support/portal.js'
import { check } from './checker.js'
import { Load } from './load.js'
import { FAULT_KINDS, planFaults, tellFault, type FaultKind } from './plan.js'
import { Random } from './random.js'
import type { Limits, Records } from './records.js'
import { report, type Told } from './report.js'
import type { Judged } from './row.js'
import { MAX_MINT_MS, World } from './world.js'

/*
 * `node --import tsx test/chaos/run.ts --minutes 10 --seed S`: a fleet under load, with faults that follow from the seed, and a
 * checker that judges every promise afterwards. Exit code 1 when one was broken.
 */

const TIMEOUT_MS = 1500
const REDIS_TIMEOUT_MS = 300
const LOCK_MS = TIMEOUT_MS + 5 * REDIS_TIMEOUT_MS

/** Short lives, so that much happens. */
const LIMITS: Limits = {
  patExpiry: 6,
  minRemaining: 1,
  timeoutMs: TIMEOUT_MS,
  redisTimeoutMs: REDIS_TIMEOUT_MS,
  lockMs: LOCK_MS,
  promptMs: REDIS_TIMEOUT_MS + 500 + MAX_MINT_MS,
  // who waits gives up after two locks; then comes a mint without Redis, and some slack for a busy machine
  clientTimeoutMs: 2 * LOCK_MS + TIMEOUT_MS + 5 * REDIS_TIMEOUT_MS + 2000,
  stopMs: 2 * LOCK_MS + TIMEOUT_MS + 5 * REDIS_TIMEOUT_MS,
}

const FIRST_MEMORY_MS = 60_000
/** Shorter runs say nothing about memory. */
const MIN_MEMORY_RUN_MS = 5 * 60_000
const MAX_GROWTH = 1.2

export interface ChaosOptions {
  ms: number
  seed: number
  /** @default 3: more than the cores of a small machine */
  slots?: number
  /** Asks. @default 320 */
  perSecond?: number
  /** @default all */
  kinds?: FaultKind[]
  /** The plugin's, besides those of the run. */
  options?: Partial<TooljetEmbedOptions>
  log?: (line: string) => void
  /** Ends the run early. */
  signal?: AbortSignal
}

export async function runChaos ({ ms, seed, slots = 3, perSecond = 320, kinds, options = {}, log = () => {}, signal }: ChaosOptions): Promise<Told> {
  const plan = planFaults(seed, ms, slots, kinds)
  log(`seed ${seed}, ${plan.length} faults planned:`)
  for (const fault of plan) log(tellFault(fault))

  const records: Records = { limits: LIMITS, answers: [], forgets: [], lives: [], mints: [], tokens: new Map(), epochs: [], logged: [], pauses: [], disturbances: [], lags: [], leaks: [] }
  const world = await World.start(slots, records, new Random(seed + 1), options)
  const memory: Told['memory'] = []
  const struck: string[] = []
  const lag = monitorEventLoopDelay({ resolution: 20 })
  let load: Load | undefined
  const began = performance.now()
  try {
    load = await Load.prepare({ records, instances: () => world.instances, toolJet: world.toolJet, random: new Random(seed + 2), perSecond, isLosing: () => world.isLosing })
    const loading = load.run()
    loading.catch(() => {})
    lag.enable()
    const until = async (at: number): Promise<void> => {
      const left = began + at - performance.now()
      if (left > 0) await sleep(left, undefined, signal && { signal }).catch(() => { signal!.throwIfAborted() })
    }
    const measure = async (): Promise<void> => {
      const instances = await Promise.all(world.instances.map(async (instance) => ({ slot: instance.life.slot, memory: await instance.memory() })))
      memory.push({ afterMs: performance.now() - began, instances })
    }
    const striking: Promise<void>[] = []
    const measuring = ms > 2 * FIRST_MEMORY_MS ? until(FIRST_MEMORY_MS).then(measure) : undefined
    measuring?.catch(() => {})
    for (const fault of plan) {
      await until(fault.at)
      log(`${tellFault(fault)}  (${records.answers.length} answers)`)
      struck.push(fault.kind)
      const strike = world.strike(fault)
      strike.catch(() => {})
      striking.push(strike)
    }
    await Promise.all([until(ms), measuring, ...striking])
    load.end()
    await loading
    lag.disable()
    await measure()
    await world.end()
  } catch (error) {
    load?.end()
    await world.kill()
    throw error
  }

  records.epochs = world.redis.epochs
  records.mints = world.toolJet.calls.map(({ at, endedAt, token, body }) => ({
    email: String(body['email']), appId: String(body['appId']), at, ...(endedAt !== undefined && { endedAt }), ...(token !== undefined && { token }),
  }))
  for (const token of world.toolJet.tokens.all) records.tokens.set(token.token, token)
  const judged = await check(records, new EventSigner(await deriveKeys([API_TOKEN], 'audit'), world.redis.stream))
  return { seed, ms, faults: struck, lostReplies: world.lostReplies, records, judged: [...judged, ...memoryRow(ms, memory)], memory, longestLagMs: lag.max / 1e6 }
}

/** Of the one instance that is as old as the run. */
function memoryRow (ms: number, memory: Told['memory']): Judged[] {
  const [first, last] = [memory.at(0), memory.at(-1)].map((at) => at?.instances.find(({ slot }) => slot === 0)?.memory.heapUsed)
  if (ms < MIN_MEMORY_RUN_MS || first === undefined || last === undefined) return []
  const holds = last <= first * MAX_GROWTH
  return [{ promise: 'memory stays within 20 % of that after a minute', count: 1, violations: holds ? 0 : 1, examples: holds ? [] : [`${first} bytes, then ${last}`] }]
}

function usage (text: string): never {
  throw new Error(text)
}

async function main (): Promise<void> {
  const { values: { minutes, seed, rate, only } } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' }, rate: { type: 'string' }, only: { type: 'string' } } })
  const kinds = only?.split(',').map((name) => FAULT_KINDS.find((kind) => kind === name) ?? usage(`--only takes some of ${FAULT_KINDS.join()}`))
  const given = { ms: Number(minutes) * 60_000, seed: seed === undefined ? Math.floor(Math.random() * 1e9) : Number(seed), ...(rate !== undefined && { perSecond: Number(rate) }), ...(kinds !== undefined && { kinds }) }
  if (!(given.ms >= 10_000) || !Number.isSafeInteger(given.seed)) usage('--minutes takes a number, a sixth or more; --seed a whole number')
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(signal)))
  const told = await runChaos({ ...given, log: console.log, signal: stop.signal })
  console.log(report(told))
  process.exitCode = told.judged.some(({ violations }) => violations > 0) ? 1 : 0
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
