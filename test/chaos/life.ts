import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { plainEnv } from '../support/plain-env.js'
import { now } from './clock.js'
import type { Life, Records } from './records.js'

const FILE = fileURLToPath(new URL('./instance.ts', import.meta.url))

/** Where what instances say goes. */
export type Sink = Pick<Records, 'lives' | 'logged' | 'leaks'>

export interface Memory {
  rss: number
  heapUsed: number
}

/** One process with the plugin, and the record of its life. */
export class LivingInstance {
  readonly #exited: Promise<void>

  private constructor (readonly process: ChildProcess, readonly url: string, readonly life: Life) {
    this.#exited = life.exit === undefined ? once(process, 'exit').then(() => {}) : Promise.resolve()
  }

  /** @param isSecret finds what no log line may hold */
  static async start (slot: number, env: { secret: string, options: object }, sink: Sink, isSecret: (text: string) => boolean): Promise<LivingInstance> {
    const life: Life = { id: sink.lives.length, slot, instance: '', startedAt: now(), crashes: [], redisDown: [] }
    sink.lives.push(life)
    const child = fork(FILE, {
      execArgv: ['--import', 'tsx', '--expose-gc'],
      env: { ...plainEnv(), INSTANCE: JSON.stringify(env) },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    const killOnExit = (): void => { child.kill('SIGKILL') }
    process.once('exit', killOnExit)
    child.once('exit', (code, signal) => {
      process.off('exit', killOnExit)
      life.exit = { at: now(), code, signal }
    })
    child.on('message', ({ crash }: { crash?: string }) => { if (crash !== undefined) life.crashes.push(crash) })
    createInterface({ input: child.stdout! }).on('line', (line) => {
      if (isSecret(line)) sink.leaks.push(line.slice(0, 500))
      readLine(line, life, sink)
    })
    const [{ url, instance }] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => { throw new Error(`an instance ended with code ${String(code)} while it started`) }),
    ]) as [{ url: string, instance: string }]
    life.instance = instance
    return new LivingInstance(child, url, life)
  }

  get hasEnded (): boolean {
    return this.process.exitCode !== null || this.process.signalCode !== null
  }

  /** kill -9, or SIGTERM as an orchestrator sends it: `boundMs` later it ends in any case. */
  async end (by: 'kill' | 'stop', boundMs: number): Promise<void> {
    if (this.hasEnded) return
    this.life.ending = { at: now(), by }
    this.process.kill(by === 'kill' ? 'SIGKILL' : 'SIGTERM')
    const timer = setTimeout(() => this.process.kill('SIGKILL'), boundMs)
    await this.#exited
    clearTimeout(timer)
  }

  async memory (): Promise<Memory> {
    const answered = once(this.process, 'message') as Promise<[{ memory: Memory }]>
    this.process.send({})
    return (await answered)[0].memory
  }
}

const DOWN = /Redis (?:is not available|connection lost)/
const UP = /Redis (?:is back|connection restored)/

/** A log line is an audit event that Redis did not get, a change of Redis's state as this instance sees it, or nothing to the checker. */
function readLine (text: string, life: Life, sink: Sink): void {
  let line: { time: number, msg?: string, tooljetEmbedAudit?: Record<string, string> }
  try {
    line = JSON.parse(text) as typeof line
  } catch {
    return // cut off by a kill -9
  }
  if (line.tooljetEmbedAudit !== undefined) sink.logged.push({ life: life.id, fields: line.tooljetEmbedAudit })
  if (line.msg !== undefined && DOWN.test(line.msg)) life.redisDown.push({ from: line.time })
  const down = life.redisDown.at(-1)
  if (line.msg !== undefined && UP.test(line.msg) && down !== undefined) down.to = line.time
}
