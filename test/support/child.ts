import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { plainEnv } from './plain-env.js'
import { until } from './until.js'

/** What the example reads from its environment: a developer's own settings are not for the tests. */
const OF_THE_EXAMPLE = ['DEMO_ADMIN', 'DEMO_USERS', 'HOST', 'JWT_SECRET', 'LOG_FORMAT', 'LOG_LEVEL', 'OTEL_TRACES_EXPORTER', 'PORT', 'REDIS_URL', 'TEST_REDIS', 'TOOLJET_API_TOKEN', 'TOOLJET_APP_ID', 'TOOLJET_EMBED_ORIGINS', 'TOOLJET_URL', 'TRUST_PROXY']
const STOP_MS = 60_000

/** A program that runs by itself, as a user starts it. */
export class Child {
  #output = ''
  readonly #ended: Promise<void>

  private constructor (readonly process: ChildProcess) {
    for (const stream of [process.stdout!, process.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => { this.#output += text })
    }
    this.#ended = once(process, 'close').then(() => {})
  }

  /** @param args of node, from the repository's root @param user whose process it is, default: one's own */
  static start (t: Test, args: string[], env: NodeJS.ProcessEnv, user: { uid?: number, gid?: number } = {}): Child {
    const base = Object.fromEntries(Object.entries(plainEnv()).filter(([name]) => !OF_THE_EXAMPLE.includes(name)))
    const child = new Child(spawn(process.execPath, args, {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: { ...base, ENV_FILE: '/dev/null', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...user,
    }))
    const stopOnExit = (): void => { child.process.kill('SIGTERM') }
    process.once('exit', stopOnExit)
    t.teardown(async () => {
      process.off('exit', stopOnExit)
      await child.stop()
    })
    return child
  }

  /** What it has printed so far. */
  get output (): string {
    return this.#output
  }

  get hasEnded (): boolean {
    return this.process.exitCode !== null || this.process.signalCode !== null
  }

  /** Waits until it has printed this. @returns all that it has printed */
  async prints (text: string, withinMs = 60_000): Promise<string> {
    const hasPrinted = (): boolean => this.#output.includes(text)
    await until('it prints or ends', () => hasPrinted() || this.hasEnded, withinMs).catch(() => {})
    if (!hasPrinted()) throw new Error(`it has not printed "${text}", but:\n${this.#output}`)
    return this.#output
  }

  /** @returns its exit code, or the signal that ended it */
  async ends (): Promise<number | NodeJS.Signals | null> {
    await this.#ended
    return this.process.exitCode ?? this.process.signalCode
  }

  async stop (): Promise<number | NodeJS.Signals | null> {
    if (!this.hasEnded) this.process.kill('SIGTERM')
    await Promise.race([this.#ended, sleep(STOP_MS, undefined, { ref: false })])
    if (!this.hasEnded) this.process.kill('SIGKILL') // it did not listen; whoever asked sees it by the answer
    return this.ends()
  }
}

/** `npm start`, by the command that package.json has for it. */
export function npmStart (t: Test, args: string[], env: NodeJS.ProcessEnv, user?: { uid?: number, gid?: number }): Child {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { scripts: { start: string } }
  const [node, ...command] = scripts.start.split(' ')
  t.equal(node, 'node')
  // the name that npm gives: with it the example does not outlive whoever started it
  return Child.start(t, [...command, ...args], { npm_lifecycle_event: 'start', ...env }, user)
}

/** The first of several ports in a row that are free. */
export async function freePorts (count: number): Promise<number> {
  for (;;) {
    // below the range from which the system itself gives ports to the tests that run beside this one
    const first = 20_000 + Math.floor(Math.random() * 12_000)
    const areFree = await Promise.all(Array.from({ length: count }, (_, i) => isPortFree(first + i)))
    if (areFree.every(Boolean)) return first
  }
}

/** On both addresses of `localhost`. */
export async function isPortFree (port: number): Promise<boolean> {
  for (const host of ['127.0.0.1', '::1']) {
    const code = await new Promise<string | undefined>((resolve) => {
      const server = createServer().once('error', (error: NodeJS.ErrnoException) => resolve(error.code))
      server.listen(port, host, () => server.close(() => resolve(undefined)))
    })
    if (code === 'EADDRINUSE') return false // a machine without IPv6 says something else
  }
  return true
}
