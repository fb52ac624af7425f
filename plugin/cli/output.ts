import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { styleText } from 'node:util'
import { message } from './text.js'

/** A stream that may be a terminal. */
export type OutputStream = Writable & { isTTY?: boolean, columns?: number }

export type Style = Parameters<typeof styleText>[0]

/** Where the program writes: results to stdout, all else to stderr. */
export class Output {
  readonly #stdout: OutputStream
  readonly #stderr: OutputStream
  readonly #gone = new AbortController()
  readonly #hasColour: boolean
  #failure: Error | undefined

  constructor (stdout: OutputStream, stderr: OutputStream, env: NodeJS.ProcessEnv) {
    this.#stdout = stdout
    this.#stderr = stderr
    this.#hasColour = stdout.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
    stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') this.#failure ??= error
      this.#gone.abort()
    })
    stderr.on('error', () => {}) // whoever read it has gone, which changes no result
  }

  /** Aborted when nobody reads the results any more. */
  get gone (): AbortSignal {
    return this.#gone.signal
  }

  /** Why results could not be written: a full disk, and not a reader that has seen enough. */
  get failure (): Error | undefined {
    return this.#failure
  }

  /** Places in a line of the terminal; any number when it is none. */
  get width (): number {
    return this.#stdout.isTTY === true ? this.#stdout.columns || 80 : Infinity
  }

  /** Whether a progress line would be seen, and would not be among the results. */
  get showsProgress (): boolean {
    return this.#stderr.isTTY === true
  }

  get isTerminal (): boolean {
    return this.#stdout.isTTY === true
  }

  styled (style: Style, text: string): string {
    return this.#hasColour ? styleText(style, text, { validateStream: false }) : text
  }

  /** Writes results, and waits while the reader is slower. */
  async write (text: string): Promise<void> {
    if (this.gone.aborted || text === '' || this.#stdout.write(text)) return
    await once(this.#stdout, 'drain', { signal: this.gone }).catch(() => {})
  }

  /** Waits until what was written is out, or will never be. */
  async flush (): Promise<void> {
    await new Promise<void>((resolve) => { this.#stdout.write('', () => resolve()) })
  }

  /** A line for people beside the results. */
  note (text: string): void {
    this.#stderr.write(`${message(text)}\n`)
  }

  /** A line that the next one replaces; none given: takes it away. */
  progress (text = ''): void {
    if (this.showsProgress) this.#stderr.write(`\r${message(text)}\u001b[K`)
  }
}
