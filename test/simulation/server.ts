import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { fieldsOf, type AuditFields } from '../../plugin/audit/event.js'
import { COMMAND, END_OF_SHIM, RESTORE, SNAPSHOT, virtualLua } from './lua.js'
import { dateOf, type Scheduler } from './scheduler.js'

export type Arg = string | number | Buffer

export interface Command {
  name: string
  args: Arg[]
  /** Whether replies are to be Buffers. */
  buffers: boolean
}

/** What Redis answers, or the error that it answers with. */
export type Reply = { value: unknown } | { error: Error }

function sha1 (text: string): string {
  return createHash('sha1').update(text).digest('hex')
}

/** What the types of ioredis leave out. */
type WithBuffers = Redis & { evalshaBuffer (digest: string, numKeys: number, ...args: Arg[]): Promise<unknown> }

/** A connection to the real Redis, shared by schedules that run at the same time, and what it has loaded. */
export class RealRedis {
  readonly #client: WithBuffers
  readonly #loaded = new Map<string, Promise<string>>()
  readonly #virtual = new Map<string, string>()

  constructor (client: Redis) {
    this.#client = client as WithBuffers
  }

  async run (lua: string, keys: Arg[], args: Arg[]): Promise<unknown> {
    return this.#client.evalshaBuffer(await this.#load(lua), keys.length, ...keys, ...args)
  }

  /** The same script in virtual time. */
  virtual (text: string): string {
    let lua = this.#virtual.get(text)
    if (lua === undefined) this.#virtual.set(text, lua = virtualLua(text))
    return lua
  }

  /** @returns the digest of the script, which Redis knows from then on */
  #load (lua: string): Promise<string> {
    let digest = this.#loaded.get(lua)
    if (digest === undefined) {
      digest = this.#client.script('LOAD', lua) as Promise<string>
      this.#loaded.set(lua, digest)
    }
    return digest
  }
}

/** The one Redis of a schedule: a part of the real one, in virtual time. */
export class RedisServer {
  /** Until then it does nothing. */
  frozenUntil = 0
  readonly #real: RealRedis
  readonly #prefix: string
  readonly #scheduler: Scheduler
  /** Scripts by the digest of their original text. */
  readonly #scripts = new Map<string, string>()
  readonly #digests = new Map<string, string>()
  /** Keys that a script may have written to. */
  readonly #touched = new Set<string>()
  /** What scripts said that read keys which were never there, by their arguments. */
  readonly #answersOfNothing = new Map<string, unknown[]>()

  /** @param prefix with which all keys start, maybe after a `{`; without signs that mean something in a pattern */
  constructor (real: RealRedis, prefix: string, scheduler: Scheduler) {
    this.#real = real
    this.#prefix = prefix
    this.#scheduler = scheduler
  }

  /** The text of a script that was sent in full before. */
  textOf (digest: string): string | undefined {
    return this.#digests.get(digest)
  }

  async execute ({ name, args, buffers }: Command): Promise<Reply> {
    const numKeys = Number(args[1])
    switch (name) {
      case 'EVALSHA': {
        const lua = this.#scripts.get(String(args[0]))
        if (lua === undefined) return { error: new ReplyError('NOSCRIPT No matching script. Please use EVAL.') }
        return this.#runUnlessIdle(lua, args.slice(2, 2 + numKeys), args.slice(2 + numKeys), buffers)
      }
      case 'EVAL': {
        const text = String(args[0])
        const digest = sha1(text)
        const lua = this.#real.virtual(text)
        this.#scripts.set(digest, lua)
        this.#digests.set(digest, text)
        return this.#runUnlessIdle(lua, args.slice(2, 2 + numKeys), args.slice(2 + numKeys), buffers)
      }
      default:
        return this.#run(this.#real.virtual(COMMAND), [], [name, ...args], buffers)
    }
  }

  /** The entries of a stream, by the real Redis. */
  async streamAt (key: string): Promise<AuditFields[]> {
    const entries = asText(await this.#real.run("return redis.call('XRANGE', KEYS[1], '-', '+')", [key], [])) as [id: string, flat: string[]][]
    return entries.map(([, flat]) => fieldsOf(flat))
  }

  /** All that is in it now. */
  async snapshot (): Promise<Buffer[]> {
    return await this.#real.run(SNAPSHOT, [], [`*${this.#prefix}*`]) as Buffer[]
  }

  /** Puts an earlier state in place of what is there. Its scripts are gone, too. */
  async restore (snapshot: Buffer[]): Promise<void> {
    this.#scripts.clear()
    for (let i = 0; i < snapshot.length; i += 2) this.#touched.add(String(snapshot[i]))
    await this.#real.run(RESTORE, [], [`*${this.#prefix}*`, ...snapshot])
  }

  /** All instances read the empty log of forgets every two seconds: as long as nobody has written to it, Redis is not asked again. */
  async #runUnlessIdle (lua: string, keys: Arg[], args: Arg[], buffers: boolean): Promise<Reply> {
    if (!isReader(lua)) {
      for (const key of keys) this.#touched.add(String(key))
      return this.#run(lua, keys, args, buffers)
    }
    const [deadline, ...rest] = args
    const isNothing = keys.every((key) => !this.#touched.has(String(key))) && (Number(deadline) === 0 || Number(deadline) >= dateOf(this.#scheduler.now))
    if (!isNothing) return this.#run(lua, keys, args, buffers)
    const asked = [buffers, lua.length, ...keys, ...rest].join(' ')
    const known = this.#answersOfNothing.get(asked)
    if (known !== undefined) return { value: [dateOf(this.#scheduler.now), ...known] }
    const reply = await this.#run(lua, keys, args, buffers)
    if ('value' in reply && Array.isArray(reply.value)) this.#answersOfNothing.set(asked, reply.value.slice(1))
    return reply
  }

  async #run (lua: string, keys: Arg[], args: Arg[], buffers: boolean): Promise<Reply> {
    try {
      const value = await this.#real.run(lua, [...keys, `${this.#prefix}ends`], [...args, dateOf(this.#scheduler.now)])
      return { value: buffers ? value : asText(value) }
    } catch (error) {
      return { error: new ReplyError((error as Error).message) }
    }
  }
}

/** A script that begins its reply with the time, and writes nothing: told by its commands. */
function isReader (lua: string): boolean {
  let is = READERS.get(lua)
  if (is === undefined) READERS.set(lua, is = [...lua.slice(lua.lastIndexOf(END_OF_SHIM)).matchAll(/\b(?:(?:sim_)?p?call|try)\('(\w+)'/g)].every(([, command]) => READING.has(command!)))
  return is
}

const READERS = new Map<string, boolean>()
const READING = new Set(['TIME', 'XRANGE'])

class ReplyError extends Error {
  override readonly name = 'ReplyError'
}

function asText (value: unknown): unknown {
  if (value instanceof Buffer) return value.toString()
  return Array.isArray(value) ? value.map(asText) : value
}
