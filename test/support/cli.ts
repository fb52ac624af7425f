import { execFile, execFileSync, type ExecFileException } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import { append, toQueued, type QueuedEvent } from '../../plugin/audit/append.js'
import { AuditKeys } from '../../plugin/audit/audit-keys.js'
import { toFields, type AuditEvent, type AuditFields } from '../../plugin/audit/event.js'
import { EventSigner, fieldsOfSigned } from '../../plugin/audit/signer.js'
import { deriveKeys } from '../../plugin/crypto/secret-keys.js'
import type { Program } from '../../plugin/cli/run-program.js'
import { run } from '../../plugin/cli/audit/run.js'
import { plainEnv } from './plain-env.js'
import { wayToRedis } from './way-to-redis.js'

export const KEY = 'key-of-the-log-4d1f'
const MAC_KEYS = await deriveKeys([KEY], 'audit')
const SILENT_LOG = { info () {}, warn () {}, error () {} }

export interface Ended {
  code: number
  stdout: string
  stderr: string
}

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const PTY_COLUMNS = 100
let built: string | undefined

/** The package as it is built, in a folder of its own. */
export function builtPackage (): string {
  if (built === undefined) {
    const folder = built = mkdtempSync(join(tmpdir(), 'tooljet-embed-cli-'))
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
    for (const file of ['package.json', 'CHANGELOG.md', 'LICENSE', 'README.md']) cpSync(join(REPOSITORY, file), join(folder, file))
    symlinkSync(join(REPOSITORY, 'node_modules'), join(folder, 'node_modules'))
    // tap gives its loader to every Node that a test starts, whatever the environment, and the compiler fails under it
    execFileSync('env', ['-u', 'NODE_OPTIONS', process.execPath, join(REPOSITORY, '.ci', 'build.js'), join(folder, 'dist')], { env: plainEnv(), stdio: ['ignore', 'ignore', 'inherit'] })
  }
  return built
}

export function auditFile (): string {
  return join(builtPackage(), 'dist', 'cli', 'audit.js')
}

export function warmFile (): string {
  return join(builtPackage(), 'dist', 'cli', 'warm.js')
}

export function doctorFile (): string {
  return join(builtPackage(), 'dist', 'cli', 'doctor.js')
}

/** Nothing of a developer's own settings. */
export function cliEnv (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { REDIS_URL: _, NO_COLOR: __, TOOLJET_API_TOKEN: ___, TOOLJET_EMBED_ENCRYPTION_KEY: ____, ...others } = plainEnv()
  return { ...others, ...env }
}

/** Runs a program to its end, without a terminal. */
export function ended (file: string, args: string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(file, args, { env: cliEnv(env), maxBuffer: 1e9 }, (error: ExecFileException | null, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr })
    })
    child.stdin!.end()
  })
}

/** Runs the command line as a process, without a terminal. */
export function cli (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return ended(process.execPath, [auditFile(), ...args], env)
}

export const HAS_SCRIPT = hasScript()

function hasScript (): boolean {
  try {
    return execFileSync('script', ['--version'], { encoding: 'utf8' }).includes('util-linux')
  } catch {
    return false
  }
}

/** What `script` takes for the command line on a terminal. @param before shell commands that come first */
export function scriptArgs (args: string[], before = `stty cols ${PTY_COLUMNS}`): string[] {
  const words = [process.execPath, auditFile(), ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`)
  // exec: a shell that stays (which one it is, SHELL tells) gets a Ctrl-C as well, and its exit code is not the program's
  return ['-qec', `${before}; exec ${words.join(' ')}`, '/dev/null']
}

/** Runs the command line on a terminal. */
export function cliOnTerminal (args: string[], env: NodeJS.ProcessEnv = {}, before?: string): Promise<Ended> {
  return ended('script', scriptArgs(args, before), { TERM: 'xterm', ...env })
}

/** Runs the command line, or another program, in this process. */
export async function cliHere (args: string[], { program = run, env = {}, signal, isTTY = false, columns, slow = false, failsWith, shows }: {
  program?: Program
  env?: NodeJS.ProcessEnv
  signal?: AbortSignal
  isTTY?: boolean
  columns?: number
  /** Its output is read one write at a time. */
  slow?: boolean
  /** Error code of every write to stdout. */
  failsWith?: string
  /** Told all of stdout so far. */
  shows?: (text: string) => void
} = {}): Promise<Ended> {
  const collector = (failure?: string) => {
    const stream = new Writable({
      highWaterMark: slow ? 1 : 16_384,
      write (chunk, _encoding, done) {
        stream.text += String(chunk)
        if (stream === stdout) shows?.(stream.text)
        setImmediate(() => done(failure === undefined ? null : Object.assign(new Error(`write ${failure}`), { code: failure })))
      },
    }) as Writable & { text: string, isTTY: boolean, columns?: number | undefined }
    return Object.assign(stream, { text: '', isTTY, columns })
  }
  const stdout = collector(failsWith)
  const stderr = collector()
  const code = await program(args, { stdout, stderr, env, interrupted: () => signal ?? new AbortController().signal })
  await Promise.all([stdout, stderr].map((stream) => new Promise<void>((resolve) => { stream.end(() => resolve()) })))
  return { code, stdout: stdout.text, stderr: stderr.text }
}

/** An event of a test: of which instance, and when, if not now. */
export type TestEvent = AuditEvent & { instance?: string, at?: number }

/** An audit log whose events a test makes up. */
export class Log {
  readonly #redis: Redis
  readonly #signer: EventSigner
  readonly #keys: AuditKeys
  readonly #instances = new Map<string, { seq: number, prev: string }>()
  #way: ReturnType<typeof wayToRedis> | undefined
  /** Fields of all its events, as they go to the app's log. */
  readonly logged: AuditFields[] = []

  constructor (redis: Redis, readonly stream: string) {
    this.#redis = redis
    this.#signer = new EventSigner(MAC_KEYS, stream)
    this.#keys = new AuditKeys(stream)
  }

  /** As an instance writes them. @returns their ids */
  async add (events: TestEvent[]): Promise<string[]> {
    const { scripts } = await (this.#way ??= wayToRedis(this.#redis, 5000, SILENT_LOG as never))
    const before = (await this.entries()).length
    for (let i = 0; i < events.length;) {
      const { instance = 'web-1' } = events[i]!
      const batch: QueuedEvent[] = []
      for (; i < events.length && batch.length < 128 && (events[i]!.instance ?? 'web-1') === instance; i++) batch.push(this.make(events[i]!))
      await append(scripts, this.#keys, { retentionMs: 0, maxEntries: 0 }, '', instance, batch)
    }
    return (await this.entries()).slice(before).map(([id]) => id)
  }

  entries (): Promise<[id: string, fields: string[]][]> {
    return this.#redis.xrange(this.stream, '-', '+')
  }

  /** Makes an event, and logs it. */
  make ({ instance = 'web-1', at = Date.now(), ...event }: TestEvent): QueuedEvent {
    const position = this.#instances.get(instance) ?? { seq: 0, prev: '' }
    this.#instances.set(instance, position)
    position.seq++
    const fields = toFields(event, at, { instance, ...position })
    const signed = this.#signer.sign(fields, at)
    position.prev = signed.mac
    this.logged.push(fieldsOfSigned(signed))
    return toQueued(signed, fields, this.#keys)
  }
}

/** Terminal escapes as text. */
export function visible (text: string): string {
  return text.replaceAll('\u001b', '<ESC>').replaceAll('\r', '<CR>')
}

/** Lines of JSON. */
export function parsed (ndjson: string): Record<string, unknown>[] {
  return ndjson.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Record<string, unknown>)
}

export function ids (ndjson: string): string[] {
  return parsed(ndjson).map(({ id }) => String(id))
}

/** A folder that is gone after the test. */
export function scratch (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
