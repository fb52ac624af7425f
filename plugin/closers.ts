/** How long a start that failed may take to close what it had opened, in ms: Fastify gives a plugin 10 s in all. */
const FAILED_START_MS = 1000

/** @param boundMs how long it may take */
type Close = (timeoutMs: number) => unknown

/** Closes what was opened, once, in the opposite order. */
export class Closers {
  readonly #opened: Close[] = []
  #closing: Promise<void> | undefined

  add (close: Close): void {
    this.#opened.push(close)
  }

  /**
   * A second call waits for the first. When one closer fails, the others still run.
   * @throws the first error
   */
  close (timeoutMs: number): Promise<void> {
    this.#closing ??= this.#closeAll(timeoutMs)
    return this.#closing
  }

  /** Runs a step of the start. When it throws, everything opened so far is closed: many hosts never close an app that did not start. */
  async closeOnError<T> (step: () => Promise<T>): Promise<T> {
    try {
      return await step()
    } catch (error) {
      await this.close(FAILED_START_MS).catch(() => { /* the reason of the failed start matters more */ })
      throw error
    }
  }

  async #closeAll (timeoutMs: number): Promise<void> {
    const errors: unknown[] = []
    for (const close of this.#opened.reverse()) {
      try {
        await close(timeoutMs)
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}
