import type { TooljetEmbedHealth } from '../../index.js'
import type { TooljetEmbedWarmProgress } from '../../warm.js'
import type { Output } from '../output.js'
import { grouped } from '../text.js'

/** Interval of the lines without a terminal, ms. */
const EVERY_MS = 60_000
/** The limits of `warm()`: calls a minute while no limit is known, and its share of a limit. */
const UNLIMITED_PER_MINUTE = 10
const SHARE = 0.8

/** Shows progress and time left: one line on a terminal, else a line a minute. */
export class WarmProgress {
  readonly #out: Output
  readonly #began = performance.now()
  #notedAt = performance.now()
  #isShown = false

  constructor (out: Output) {
    this.#out = out
  }

  show (progress: TooljetEmbedWarmProgress, health: TooljetEmbedHealth): void {
    const { done, total } = progress
    const now = performance.now()
    const minutes = this.#minutesLeft(progress, health, now)
    const text = `${grouped(done)} of ${grouped(total)} (${Math.floor(done * 100 / total)} %): ${counts(progress)}${minutes === undefined ? '' : `, about ${inWords(minutes)} left`}`
    if (this.#out.showsProgress) {
      this.#isShown = true
      this.#out.progress(text)
    } else if (now - this.#notedAt >= EVERY_MS) {
      this.#notedAt = now
      this.#out.note(text)
    }
  }

  end (): void {
    if (this.#isShown) this.#out.progress()
    this.#isShown = false
  }

  /** Estimates the time left: none of the remaining pairs is cached, and mints are as slow as until now, or as ToolJet's limit allows. */
  #minutesLeft ({ done, total, minted, failed }: TooljetEmbedWarmProgress, { tooljet }: TooljetEmbedHealth, now: number): number | undefined {
    const { queue } = tooljet
    const limit = queue === undefined ? Infinity : queue.perMinute === null ? UNLIMITED_PER_MINUTE : SHARE * queue.perMinute
    const called = minted + failed
    const rate = Math.min(limit, called > 0 ? called * 60_000 / (now - this.#began) : Infinity)
    return Number.isFinite(rate) ? (total - done) / rate : undefined
  }
}

export function counts ({ minted, alreadyCached, failed }: Pick<TooljetEmbedWarmProgress, 'minted' | 'alreadyCached' | 'failed'>): string {
  return `${grouped(minted)} minted, ${grouped(alreadyCached)} already cached, ${grouped(failed)} failed`
}

function inWords (minutes: number): string {
  const whole = Math.max(1, Math.ceil(minutes))
  const hours = Math.floor(whole / 60)
  return `${hours > 0 ? `${grouped(hours)} h ` : ''}${whole % 60} min`
}
