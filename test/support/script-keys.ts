import { createHash } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import type { Redis } from 'ioredis'
import { newClient } from './redis-client.js'
import { until } from './until.js'

/** A script as Redis ran it. */
export interface ScriptCall {
  /** What was under way. */
  flow: string
  /** First line of its text, or its digest where Redis has never seen the text. */
  script: string
  keys: string[]
  /** What it called, as words. */
  commands: string[][]
}

/** A key that a script touched and did not declare. */
export interface Undeclared {
  flow: string
  script: string
  command: string
  key: string
}

interface Line {
  source: string
  words: string[]
}

const MARK = 'flow: '

/** Watches by `MONITOR` which scripts a Redis runs, which keys they declare, and which they touch. Words are bytes, as latin1. */
export class ScriptWatch {
  readonly #socket: Socket
  readonly #control: Redis
  readonly #lines: Line[] = []
  #rest = ''

  private constructor (socket: Socket, control: Redis) {
    this.#socket = socket
    this.#control = control
    socket.setEncoding('latin1').on('data', (chunk: string) => this.#take(chunk)).on('error', () => {})
  }

  static async open (port: number): Promise<ScriptWatch> {
    const socket = connect(port, '127.0.0.1')
    const watch = new ScriptWatch(socket, newClient(`redis://127.0.0.1:${port}`))
    socket.write('MONITOR\r\n')
    await watch.begin('nothing yet')
    return watch
  }

  /** From here on what happens belongs to this flow; all that was sent before has been seen when it resolves. */
  async begin (flow: string): Promise<void> {
    const mark = `${MARK}${flow}`
    const seen = this.#lines.length
    // sent again until it is seen: the first ones may come before MONITOR itself
    await until(`MONITOR tells of ${mark}`, async () => {
      await this.#control.echo(mark)
      return this.#lines.slice(seen).some((line) => markOf(line) === flow)
    })
  }

  /** Every run of a script by EVAL or EVALSHA so far; functions are none. */
  calls (): ScriptCall[] {
    const calls: ScriptCall[] = []
    const names = new Map<string, string>()
    let flow = ''
    let running: ScriptCall | undefined
    for (const line of this.#lines) {
      const [command = '', script = '', count = '0', ...rest] = line.words
      if (line.source === 'lua') {
        running?.commands.push(line.words)
        continue
      }
      running = undefined
      flow = markOf(line) ?? flow
      if (!/^eval(sha)?(_ro)?$/i.test(command)) continue
      const isText = /^eval(_ro)?$/i.test(command)
      const sha1 = isText ? createHash('sha1').update(script, 'latin1').digest('hex') : script.toLowerCase()
      if (isText) names.set(sha1, script.trim().split('\n')[0]!)
      running = { flow, script: sha1, keys: rest.slice(0, Number(count)), commands: [] }
      calls.push(running)
    }
    return calls.map((call) => ({ ...call, script: `${names.get(call.script) ?? ''} (${call.script.slice(0, 8)})` }))
  }

  /** Keys that scripts touched without having declared them: of each script and command the first one. */
  async undeclared (): Promise<Undeclared[]> {
    const found = new Map<string, Undeclared>()
    for (const { flow, script, keys, commands } of this.calls()) {
      for (const words of commands) {
        const command = words[0]!.toUpperCase()
        const name = `${script} ${command}`
        if (found.has(name)) continue
        const key = (await this.#keysOf(words)).find((key) => !keys.includes(key))
        if (key !== undefined) found.set(name, { flow, script, command, key })
      }
    }
    return [...found.values()]
  }

  close (): void {
    this.#socket.destroy()
    this.#control.disconnect()
  }

  /** Redis itself knows where in a command its keys are. */
  async #keysOf (words: string[]): Promise<string[]> {
    if (words.length === 1) return []
    const args = words.map((word) => Buffer.from(word, 'latin1'))
    try {
      const keys = await this.#control.callBuffer('COMMAND', 'GETKEYS', ...args) as Buffer[]
      return keys.map((key) => key.toString('latin1'))
    } catch (error) {
      if (/no key arguments/.test((error as Error).message)) return []
      throw error
    }
  }

  #take (chunk: string): void {
    const lines = (this.#rest + chunk).split('\r\n')
    this.#rest = lines.pop()!
    for (const line of lines) {
      const [, source, words] = /^\+\S+ \[\d+ ([^\]]+(?:\]:\d+)?)\] (.*)$/s.exec(line) ?? []
      if (source === undefined) continue // the answer to MONITOR
      this.#lines.push({ source, words: [...words!.matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, word]) => plain(word!)) })
    }
  }
}

function markOf ({ words: [command, text] }: Line): string | undefined {
  return command?.toLowerCase() === 'echo' && text?.startsWith(MARK) === true ? text.slice(MARK.length) : undefined
}

const ESCAPED: Record<string, string> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' }

/** A word as it was before MONITOR put it in quotes. */
function plain (word: string): string {
  return word.replace(/\\(x([0-9a-f]{2})|.)/gs, (_, escape: string, hex?: string) => {
    return hex === undefined ? ESCAPED[escape] ?? escape : String.fromCharCode(parseInt(hex, 16))
  })
}
