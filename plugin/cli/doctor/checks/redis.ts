import { AuditKeys } from '../../../audit/audit-keys.js'
import { VERSION } from '../../../audit/functions.js'
import { connectionError, isReply, remedyOf, replyError } from '../../../redis/errors.js'
import { Connection } from '../../connection.js'
import { RedisError } from '../../errors.js'
import { grouped } from '../../text.js'
import { MAY_NOT, neededCommands, TOO_MUCH } from '../acl.js'
import { findingsOf, type Finding, type Findings } from '../finding.js'

const { fine, note, problem, unreachable } = findingsOf('redis')

const LEAST_VERSION = [6, 2]
const PINGS = 5
const SLOW_MS = 100
const CLOCK_MS = 5000
const NEARLY = 0.9
const ACL_REMEDY = 'docs/audit.md has the user with exactly what is needed'

export interface RedisSettings {
  url: string
  keyPrefix: string
  stream: string
  /** The longest wait of the plugin, ms. */
  timeoutMs: number
}

/** Checks whether this Redis fits the plugin. Nothing is written. */
export async function * examineRedis (settings: RedisSettings): Findings {
  let connection: Connection
  try {
    connection = await Connection.open({ url: settings.url })
  } catch (error) {
    if (!(error instanceof RedisError)) throw error
    yield unreachable('address', error.message, remedyFor(error.cause, settings.url))
    return
  }
  try {
    yield * new Examination(connection, settings).findings()
  } catch (error) {
    if (!(error instanceof RedisError)) throw error
    yield unreachable('address', error.message, remedyFor(error.cause, settings.url))
  } finally {
    connection.close()
  }
}

function remedyFor (cause: unknown, url: string): string {
  const error = connectionError(cause)
  if (/no answer|ECONNRESET|closed|timed ?out/i.test(error.message)) {
    return url.startsWith('rediss:') ? 'does it speak TLS? if not, REDIS_URL begins with redis://' : 'does it want TLS? REDIS_URL begins with rediss:// then'
  }
  return remedyOf(error) ?? 'is REDIS_URL the address of Redis, as this machine sees it?'
}

function noScripts (reason: string): Finding {
  return problem('scripts', `it runs no scripts: ${reason}`, 'all that the plugin does is a script: let Redis have EVAL and EVALSHA')
}

function remedyOfWrites (refusal: string): string {
  if (refusal.startsWith('NOREPLICAS')) return 'it wants more replicas than are there (min-replicas-to-write): start them, or ask for fewer'
  if (refusal.startsWith('MISCONF')) return 'it cannot save its data: see its log; the disk may be full'
  if (refusal.startsWith('OOM')) return 'its memory is full: give it more'
  return 'see its log'
}

class Examination {
  readonly #connection: Connection
  readonly #settings: RedisSettings
  readonly #keys: AuditKeys

  constructor (connection: Connection, settings: RedisSettings) {
    this.#connection = connection
    this.#settings = settings
    this.#keys = new AuditKeys(settings.stream)
  }

  async * findings (): Findings {
    const refusal = await this.#refusalOf('PING')
    if (refusal !== undefined && !refusal.startsWith('NOPERM')) {
      yield unreachable('address', `it refuses whatever it is asked: ${refusal}`, remedyFor(replyError(refusal), this.#settings.url))
      return
    }
    const info = await this.#info()
    if (info?.['redis_mode'] === 'sentinel') {
      yield problem('kind', 'this is a Sentinel, which keeps nothing itself', 'set REDIS_URL to the address of a Redis; for Sentinel give the plugin an ioredis client')
      return
    }
    yield * this.#kind(info)
    if (info?.['redis_mode'] === 'cluster') return
    yield * this.#speed()
    yield * this.#clock()
    yield * this.#rights()
    yield * this.#writes()
    if (info !== undefined) {
      yield * this.#memory(info)
      yield * this.#persistence(info)
    }
    yield * this.#stream()
    yield * this.#functions()
  }

  /** @returns nothing where it is refused */
  async #tryCall (command: string, ...args: (string | number)[]): Promise<unknown> {
    return (await this.#asked(command, ...args)).answer
  }

  /** @returns why it is refused */
  async #refusalOf (command: string, ...args: (string | number)[]): Promise<string | undefined> {
    return (await this.#asked(command, ...args)).refusal
  }

  async #asked (command: string, ...args: (string | number)[]): Promise<{ answer?: unknown, refusal?: string }> {
    try {
      return { answer: await this.#connection.call(command, ...args) }
    } catch (error) {
      if (isReply(error)) return { refusal: error.message }
      throw error
    }
  }

  async #info (): Promise<Record<string, string> | undefined> {
    const text = await this.#tryCall('INFO')
    if (typeof text !== 'string') return undefined
    return Object.fromEntries(text.split(/\r?\n/).filter((line) => line.includes(':')).map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    }))
  }

  * #kind (info: Record<string, string> | undefined): Generator<Finding> {
    if (info === undefined) {
      yield note('kind', 'it does not tell what it is: INFO is refused', ACL_REMEDY)
      return
    }
    const { redis_version: version = '', server_name: name = 'redis', valkey_version: valkey, redis_mode: mode = 'standalone', role, loading } = info
    const [major = 0, minor = 0] = version.split('.').map(Number)
    const what = `${valkey === undefined ? name : 'valkey'} ${valkey ?? version}, ${mode}`
    if (major < LEAST_VERSION[0]! || (major === LEAST_VERSION[0] && minor < LEAST_VERSION[1]!)) yield problem('version', `${what}: it is older than 6.2`, 'use Redis 6.2 or later, or Valkey')
    else yield fine('version', what)
    if (mode === 'cluster') yield problem('kind', 'it is part of a Cluster, and REDIS_URL is for one server', 'give the plugin an ioredis Cluster client as its option "redis"; of that no variable tells, so the rest was not looked at')
    else if (role === 'slave') yield problem('role', 'it is a replica, and accepts no writes', 'set REDIS_URL to the address of the master')
    if (loading === '1') yield problem('loading', 'it still reads its data from disk', 'call again later')
  }

  async * #speed (): Findings {
    const times: number[] = []
    for (let i = 0; i < PINGS; i++) {
      const began = performance.now()
      await this.#tryCall('PING')
      times.push(performance.now() - began)
    }
    const median = times.sort((one, other) => one - other)[Math.floor(PINGS / 2)]!
    const text = `it answers in ${median < 10 ? median.toFixed(1) : Math.round(median)} ms`
    if (median > SLOW_MS) yield problem('speed', `${text}, and a request waits for it several times`, `run it nearer to the portal; redisTimeoutMs is ${this.#settings.timeoutMs}`)
    else yield fine('speed', text)
  }

  async * #clock (): Findings {
    const began = Date.now()
    const time = await this.#tryCall('TIME') as [string, string] | undefined
    if (time === undefined) return
    const skewMs = Number(time[0]) * 1000 + Number(time[1]) / 1000 - (began + Date.now()) / 2
    if (Math.abs(skewMs) < CLOCK_MS) yield fine('clock', 'its clock and this machine\'s are the same')
    else yield problem('clock', `its clock is ${Math.round(Math.abs(skewMs) / 1000)} s ${skewMs > 0 ? 'ahead of' : 'behind'} this machine's`, 'let both follow a time server: audit times and expiresAt are by these clocks')
  }

  async * #rights (): Findings {
    const { keyPrefix } = this.#settings
    try {
      const refused = await this.#connection.eval(MAY_NOT, 0, ...neededCommands(keyPrefix, this.#keys)) as string[]
      if (refused.length > 0) {
        yield problem('acl', `this user may not run ${refused.map((command) => command.toUpperCase()).join(', ')} on the plugin's keys`, ACL_REMEDY)
        return
      }
      const tooMuch = TOO_MUCH.length - (await this.#connection.eval(MAY_NOT, 0, ...TOO_MUCH) as string[]).length
      if (tooMuch > 0) yield note('acl', 'this user may do more than is needed: who has the password can take the audit log away', ACL_REMEDY)
      else yield fine('acl', 'this user may do what is needed, and no more')
    } catch (error) {
      if (!isReply(error)) throw error
      if (error.message.startsWith('NOPERM')) yield problem('acl', 'this user may not run EVAL', ACL_REMEDY)
      else if (error.message.includes('acl_check_cmd')) yield note('acl', 'it cannot tell what this user may run: it is older than 7', ACL_REMEDY)
      else yield noScripts(error.message)
    }
  }

  /** Tries commands of the plugin that change nothing, on a key that does not exist. */
  async * #writes (): Findings {
    const unknown = await this.#refusalOf('EVALSHA', '0'.repeat(40), 0)
    if (unknown !== undefined && /unknown command/i.test(unknown)) yield noScripts(unknown)
    const refusal = await this.#refusalOf('ZADD', `{${this.#settings.keyPrefix}doctor}`, 'XX', 1, 'x')
    if (refusal === undefined || /^(?:NOPERM|READONLY)/.test(refusal)) return // reported already
    yield problem('writes', `it accepts no writes: ${refusal}`, remedyOfWrites(refusal))
  }

  * #memory (info: Record<string, string>): Generator<Finding> {
    const { maxmemory = '0', used_memory: used = '0', maxmemory_policy: policy = '', connected_clients: clients = '0', maxclients = '0' } = info
    const [most, now] = [Number(maxmemory), Number(used)]
    if (most > 0 && policy.startsWith('allkeys')) yield problem('eviction', `maxmemory-policy is ${policy}: when memory is short, the audit log goes first`, 'CONFIG SET maxmemory-policy noeviction, or volatile-lru; audit.maxEntries bounds the log')
    else yield fine('eviction', most > 0 ? `when memory is short, ${policy === 'noeviction' ? 'writes are refused, and nothing is lost' : 'URLs go, and the audit log stays'}` : 'it has no bound of memory of its own')
    if (most > 0 && now > NEARLY * most) yield problem('room', `${Math.floor(now * 100 / most)} % of its memory is used`, 'give it more, or lower audit.retentionDays or audit.maxEntries')
    else yield fine('room', `${grouped(Math.ceil(now / 2 ** 20))} MB are used${most > 0 ? ` of ${grouped(Math.floor(most / 2 ** 20))}` : ''}`)
    if (Number(maxclients) > 0 && Number(clients) > NEARLY * Number(maxclients)) yield problem('clients', `${clients} of ${maxclients} connections are used`, 'CONFIG SET maxclients, or find out who opens them')
  }

  * #persistence (info: Record<string, string>): Generator<Finding> {
    const { aof_enabled: aof, aof_last_write_status: written = 'ok', rdb_last_bgsave_status: saved = 'ok' } = info
    if (saved !== 'ok' || written !== 'ok') {
      yield problem('persistence', 'it could not write to its disk, and may refuse writes', 'see its log; the disk may be full')
      return
    }
    if (aof === '1') yield fine('persistence', 'it writes an append-only file')
    else yield note('persistence', 'it writes no append-only file: the last audit events, or all of them, are gone after a restart', 'CONFIG SET appendonly yes')
  }

  async * #stream (): Findings {
    const { stream } = this.#keys
    const type = await this.#tryCall('TYPE', stream)
    const length = await this.#tryCall('XLEN', stream)
    if (typeof type === 'string' && type !== 'stream' && type !== 'none') yield problem('stream', `${stream} is no stream, but a ${type}`, 'who else writes under this prefix? --stream and audit.stream take another name')
    else if (typeof length === 'number') yield fine('stream', `${stream} has ${grouped(length)} entries`)
  }

  async * #functions (): Findings {
    const remedy = 'redis-cli -x FUNCTION LOAD REPLACE < node_modules/fastify-tooljet-embed/dist/tooljet_embed.lua'
    const version = await this.#tryCall('FCALL_RO', 'tooljet_audit_version', 0) ?? await this.#tryCall('FCALL', 'tooljet_audit_version', 0)
    if (typeof version !== 'number') yield note('functions', 'the queries of the audit log are not loaded, or this user may not run them; redis-cli --eval and tooljet-embed-audit do without', remedy)
    else if (version < VERSION) yield problem('functions', `the queries of the audit log are of an older version (${version}, here ${VERSION})`, remedy)
    else yield fine('functions', 'the queries of the audit log are loaded')
  }
}
