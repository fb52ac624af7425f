import type { Cluster, Redis, RedisOptions } from 'ioredis'
import type { AuditRedis } from '../audit/reader.js'
import { disconnect, endWhenRefused } from '../redis/connect.js'
import { connectionError, isReply } from '../redis/errors.js'
import type { RedisArgument } from '../redis/redis-like.js'
import { parseRedisUrl, RedisUrlError } from '../redis/url.js'
import { RedisError, UsageError } from './errors.js'
import { message } from './text.js'

/** Time for a connection, and for each reply, ms. */
const SILENCE_MS = 5000
/** How long a lost connection is retried in the middle of a command, ms. */
const PATIENCE_MS = 15_000
const RETRY_MS = 200

export interface ConnectionSettings {
  /** redis:// or rediss:// */
  url: string
  /** Waits for ever for a Redis that was there before. */
  isPatient?: boolean
  /** Called when the connection is lost, and when it is restored. */
  onChange?: (isThere: boolean) => void
}

/** A connection for reading: to one Redis, or to a Cluster when the first answer says that this is one. */
export class Connection implements AuditRedis {
  readonly #settings: ConnectionSettings
  readonly #target: RedisOptions
  #client!: Redis | Cluster
  #isCluster = false
  #isClosed = false
  #wasThere = false
  #isUnavailable = false
  /** Time since which there was no reply. */
  #lostAt: number | undefined
  #lastError: Error | undefined

  private constructor (settings: ConnectionSettings) {
    try {
      this.#target = parseRedisUrl(settings.url)
    } catch (error) {
      if (!(error instanceof RedisUrlError)) throw error
      throw new UsageError(`--redis (or REDIS_URL) is no redis:// or rediss:// URL (its value is not shown, a password may be in it): it ${error.message}`)
    }
    this.#settings = settings
  }

  /** @throws UsageError when the URL is none, RedisError when there is no Redis or it refuses */
  static async open (settings: ConnectionSettings): Promise<Connection> {
    const connection = new Connection(settings)
    const { Redis } = await import('ioredis')
    const client = new Redis({ ...connection.#target, ...connection.#options(), lazyConnect: true, retryStrategy: () => connection.#retryInMs() })
    connection.#use(client)
    try {
      await client.connect()
    } catch (error) {
      connection.close()
      throw connection.#unreachable(error)
    }
    return connection
  }

  call (command: string, ...args: (string | number)[]): Promise<unknown> {
    return this.#run((client) => client.call(command, ...args))
  }

  /** Like `call`, with bytes in place of strings. */
  callBuffer (command: string, ...args: RedisArgument[]): Promise<unknown> {
    return this.#run((client) => client.callBuffer(command, ...args))
  }

  eval (script: string, numKeys: number, ...args: (string | number)[]): Promise<unknown> {
    return this.#run((client) => client.eval(script, numKeys, ...args))
  }

  evalsha (sha1: string, numKeys: number, ...args: (string | number)[]): Promise<unknown> {
    return this.#run((client) => client.evalsha(sha1, numKeys, ...args))
  }

  xrange (key: string, start: string, end: string, count: 'COUNT', n: number): Promise<[id: string, fields: string[]][]> {
    return this.#run((client) => client.xrange(key, start, end, count, n))
  }

  /** Closes the connection; commands in progress fail. */
  close (): void {
    this.#isClosed = true
    disconnect(this.#client)
  }

  /** Everything here only reads, so that a command may be sent again. @throws ReplyError as Redis gave it, RedisError */
  async #run<T> (command: (client: Redis | Cluster) => Promise<T>): Promise<T> {
    try {
      const answer = await untilEnd(this.#client, command)
      this.#heard()
      return answer
    } catch (error) {
      if (!isReply(error)) throw this.#unreachable(error)
      this.#heard()
      if (this.#isCluster || !error.message.startsWith('MOVED ')) throw error
    }
    await this.#turnToCluster()
    return this.#run(command)
  }

  async #turnToCluster (): Promise<void> {
    if (this.#isCluster) return // another command was first
    this.#isCluster = true
    const { Cluster } = await import('ioredis')
    const { host, port, db: _, ...access } = this.#target
    const { tls } = access
    disconnect(this.#client)
    this.#use(new Cluster([{ host: host!, port: port! }], {
      redisOptions: { ...access, ...this.#options() },
      enableReadyCheck: false,
      clusterRetryStrategy: () => this.#retryInMs(),
      // a certificate is for a name and not for its address
      ...(tls !== undefined && { dnsLookup: (name: string, done: (error: null, address: string) => void) => done(null, name) }),
    }))
  }

  #options (): RedisOptions {
    return {
      connectTimeout: SILENCE_MS,
      socketTimeout: SILENCE_MS,
      maxRetriesPerRequest: null,
      // a user who may do nothing but read the log needs neither INFO nor CLIENT nor HELLO
      enableReadyCheck: false,
      disableClientInfo: true,
      protocol: 2,
    }
  }

  #use (client: Redis | Cluster): void {
    this.#client = client
    client.setMaxListeners(0) // each command that waits has one
    client.on('error', (error: Error) => { this.#lastError = error })
    endWhenRefused(client)
    client.on('ready', () => { if (this.#wasThere) this.#isBack() })
  }

  /** Only a reply shows that Redis is there: proxies, tunnels and a TLS port accept any connection, and drop it. */
  #heard (): void {
    this.#lostAt = undefined
    this.#wasThere = true
    this.#isBack()
  }

  #isBack (): void {
    if (this.#isUnavailable) this.#settings.onChange?.(true)
    this.#isUnavailable = false
  }

  /** Nothing means: give up. */
  #retryInMs (): number | null {
    if (this.#isClosed || !this.#wasThere) return null
    this.#lostAt ??= performance.now()
    if (!this.#isUnavailable) this.#settings.onChange?.(false)
    this.#isUnavailable = true
    if (this.#settings.isPatient !== true && performance.now() - this.#lostAt > PATIENCE_MS) return null
    return RETRY_MS
  }

  #unreachable (error: unknown): Error {
    const { host, port } = this.#target
    const cause = this.#lastError ?? error
    const problem = isReply(cause) ? `Redis at ${host}:${port} refuses` : `Redis cannot be reached at ${host}:${port}`
    return new RedisError(`${problem}: ${message(connectionError(cause).message)}`, { cause })
  }
}

/** ioredis forgets a command that it would have sent again when it gives up in the middle of a connection's beginning. */
function untilEnd<T> (client: Redis | Cluster, command: (client: Redis | Cluster) => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onEnd = (): void => reject(new Error('it gave no answer'))
    client.once('end', onEnd)
    command(client).then(resolve, reject).finally(() => client.off('end', onEnd))
  })
}
