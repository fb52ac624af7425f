import { isEmbedError } from '../errors.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'

/** Where one call cannot have several keys: so many are looked at, each by a call of its own. */
const MAX_ASKED_EACH = 20

const PAUSES = Script.of('tooljet/scripts/pause-state.lua', 'tooljet/scripts/pauses.lua')

/**
 * How long the fleet's pauses of several ToolJets still are, in one call for all of them. Their keys lie in many
 * slots: in a Redis Cluster only the first 20 are looked at, and of the others an instance knows what it has seen itself.
 * @param keys the most important ones first
 * @returns milliseconds for each; 0: none, or not known
 */
export async function pausesLeft (scripts: ScriptClient, keys: string[]): Promise<number[]> {
  if (keys.length === 0) return []
  try {
    const left = scripts.isCluster && keys.length > 1 ? await each(scripts, keys) : await together(scripts, keys)
    return keys.map((_, i) => Math.max(0, Number(left[i] ?? 0)))
  } catch (error) {
    if (!isEmbedError(error) || error.code !== 'TOOLJET_EMBED_REDIS_DOWN') throw error
    return keys.map(() => 0)
  }
}

async function together (scripts: ScriptClient, keys: string[]): Promise<unknown[]> {
  try {
    return (await scripts.run(PAUSES, keys, [])).values
  } catch (error) {
    // a Cluster behind a proxy, which looks like a single Redis
    if (keys.length > 1 && isEmbedError(error) && error.cause instanceof Error && error.cause.message.startsWith('CROSSSLOT')) return each(scripts, keys)
    throw error
  }
}

function each (scripts: ScriptClient, keys: string[]): Promise<unknown[]> {
  return Promise.all(keys.slice(0, MAX_ASKED_EACH).map(async (key) => (await scripts.run(PAUSES, [key], [])).values[0]))
}
