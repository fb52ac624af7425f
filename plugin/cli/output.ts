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
    stderr.on('error', () => {}) // nobody reads it any more, which changes no result
  }

  /** Aborted when nobody reads the results any more. */
  get gone (): AbortSignal {
    return this.#gone.signal
  }

  /** Why results could not be written, such as a full disk; not that the reader has closed the pipe. */
  get failure (): Error | undefined {
    return this.#failure
  }

  /** Columns of the terminal; Infinity without a terminal. */
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

  /** Waits until all output is written, or cannot be written any more. */
  async flush (): Promise<void> {
    await new Promise<void>((resolve) => { this.#stdout.write('', () => resolve()) })
  }

  /** A line for people beside the results. */
  note (text: string): void {
    this.#stderr.write(`${message(text)}\n`)
  }

  /** A progress line, which the next one replaces; without a text it is removed. */
  progress (text = ''): void {
    if (this.showsProgress) this.#stderr.write(`\r${message(text)}\u001b[K`)
  }
}
