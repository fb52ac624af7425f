import { isEmbedError } from '../errors.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Rate } from './mint-limit.js'

/** Most ToolJets that are looked up by a call each, where one call cannot have the keys of several. */
const MAX_SINGLE_CALLS = 20
const VALUES = 4

const STANDINGS = Script.of('tooljet/scripts/pause-state.lua', 'tooljet/scripts/standings.lua')

/** State of a ToolJet in Redis, shared by the fleet. */
export interface Standing {
  /** Milliseconds that are left of its pause; 0: none, or not known. */
  pauseMs: number
  /** Number of users and apps that wait for a turn; `undefined`: not known. */
  waiting: number | undefined
  /** Its limit as learnt from its 429s. */
  learned: Rate | undefined
}

export interface StandingKeys {
  pause: string
  queue: string
  budget: string
}

/**
 * Reads the state of several ToolJets, in one call. In a Redis Cluster, where their keys are in many slots, only the first
 * 20 are read, by a call each; of the others an instance knows what it has seen itself.
 * @param keys the most important ones first
 */
export async function standingsOf (scripts: ScriptClient, keys: StandingKeys[]): Promise<Standing[]> {
  if (keys.length === 0) return []
  try {
    const values = scripts.isCluster && keys.length > 1 ? await each(scripts, keys) : await together(scripts, keys)
    return keys.map((_, i) => standing(values.slice(i * VALUES, (i + 1) * VALUES).map(Number)))
  } catch (error) {
    if (!isEmbedError(error) || error.code !== 'TOOLJET_EMBED_REDIS_DOWN') throw error
    return keys.map(() => standing([]))
  }
}

function standing ([pauseMs = 0, waiting, max = 0, timeWindow = 0]: number[]): Standing {
  return { pauseMs: Math.max(0, pauseMs), waiting, learned: max > 0 ? { max, timeWindow } : undefined }
}

async function together (scripts: ScriptClient, keys: StandingKeys[]): Promise<unknown[]> {
  try {
    return (await scripts.run(STANDINGS, keys.flatMap(({ pause, queue, budget }) => [pause, queue, budget]), [])).values
  } catch (error) {
    // a Cluster behind a proxy, which looks like a single Redis
    if (keys.length > 1 && isEmbedError(error) && error.cause instanceof Error && error.cause.message.startsWith('CROSSSLOT')) return each(scripts, keys)
    throw error
  }
}

async function each (scripts: ScriptClient, keys: StandingKeys[]): Promise<unknown[]> {
  return (await Promise.all(keys.slice(0, MAX_SINGLE_CALLS).map((one) => together(scripts, [one])))).flat()
}
