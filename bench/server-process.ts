import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { basename, dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Settings } from './servers/serve.js'

const STOP_MS = 5000
/** Bound of a server's reply: it may have a backlog to write first. */
const REPLY_MS = 10_000

/** A server of `servers/`, compiled, in a process of its own. */
export class ServerProcess {
  private constructor (private readonly name: string, readonly url: string, private readonly process: ChildProcess) {}

  /** @param profile a file for a CPU profile, written when it stops */
  static async start (name: string, settings: Settings, profile?: string): Promise<ServerProcess> {
    const child = fork(fileURLToPath(new URL(`dist/${name}.js`, import.meta.url)), {
      execArgv: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${dirname(profile)}`, `--cpu-prof-name=${basename(profile)}`],
      env: { ...process.env, NODE_ENV: 'production', BENCH: JSON.stringify(settings) },
      stdio: ['ignore', process.stderr, process.stderr, 'ipc'], // our own output is the tables
    })
    const [{ url }] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => { throw new Error(`the server "${name}" ended with code ${String(code)}`) }),
    ]) as [{ url: string }]
    return new ServerProcess(name, url, child)
  }

  /** One of its figures, once everything that its answers so far have caused is done. */
  async figure (name: string): Promise<number> {
    this.process.send(name)
    const reply = await Promise.race([once(this.process, 'message'), sleep(REPLY_MS, undefined, { ref: false })]) as [{ figure: number }] | undefined
    if (reply === undefined) throw new Error(`the server "${this.name}" did not report its figure "${name}" within ${REPLY_MS} ms`)
    return reply[0].figure
  }

  async stop (): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, 'exit')
    if (this.process.connected) this.process.send('close')
    await Promise.race([ended, sleep(STOP_MS, undefined, { ref: false })])
    this.process.kill('SIGKILL')
    await ended
  }
}
