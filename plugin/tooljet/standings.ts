import { isEmbedError } from '../errors.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Rate } from './mint-limit.js'

/** Where one call cannot have keys of several ToolJets: so many are looked at, each by a call of its own. */
const MAX_ASKED_EACH = 20
const VALUES = 4

const STANDINGS = Script.of('tooljet/scripts/pause-state.lua', 'tooljet/scripts/standings.lua')

/** How it stands with a ToolJet, as the fleet knows it. */
export interface Standing {
  /** Milliseconds that are left of its pause; 0: none, or not known. */
  pauseMs: number
  /** Who waits for a turn; `undefined`: not known. */
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
 * How it stands with several ToolJets, in one call for all of them. Their keys lie in many slots: in a Redis Cluster
 * only the first 20 are looked at, and of the others an instance knows what it has seen itself.
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
  return (await Promise.all(keys.slice(0, MAX_ASKED_EACH).map((one) => together(scripts, [one])))).flat()
}
