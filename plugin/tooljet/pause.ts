import { embedError, isRedisDown } from '../errors.js'
import type { RedisGuard } from '../redis/guard.js'
import { Script } from '../redis/script.js'

/** KEYS: pause. ARGV: its length in ms. A shorter pause does not end a longer one. */
const PAUSE = new Script(`
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
end
return 1
`)

/** The time for which ToolJet asked not to be called, shared by the fleet through Redis; this instance remembers it, too. */
export class Pause {
  readonly #guard: RedisGuard
  readonly #key: string
  #endsAt = 0

  constructor (guard: RedisGuard, key: string) {
    this.#guard = guard
    this.#key = key
  }

  async begin (seconds: number): Promise<void> {
    this.#endsAt = Math.max(this.#endsAt, performance.now() + seconds * 1000)
    await this.#guard.run((redis) => PAUSE.run(redis, [this.#key], [Math.ceil(seconds * 1000)])).catch(unlessRedisDown)
  }

  /** Seconds left; while Redis is away, of what this instance knows. */
  async secondsLeft (): Promise<number> {
    const shared = await this.#guard.run((redis) => redis.pttl(this.#key)).catch(unlessRedisDown)
    return Math.max(0, Number(shared ?? 0), this.#endsAt - performance.now()) / 1000
  }

  /** @throws TOOLJET_EMBED_BUSY while it lasts */
  async over (): Promise<void> {
    const left = await this.secondsLeft()
    if (left > 0) throw embedError('TOOLJET_EMBED_BUSY', { retryAfter: left })
  }
}

function unlessRedisDown (error: unknown): undefined {
  if (!isRedisDown(error)) throw error
  return undefined
}
