export type RedisArgument = string | number | Buffer

/**
 * What the plugin needs of a Redis client: those of ioredis 5 and 6 and of iovalkey, `Redis` and `Cluster`, have it.
 * Nothing here imports the client's classes, so the host's own version is the one that is used.
 */
export interface RedisLike {
  call (command: string, ...args: (string | number)[]): Promise<unknown>
  eval (script: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown>
  evalsha (sha1: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown>
  /**
   * Like `eval` and `evalsha`, with bytes in place of strings. ioredis has them, but not in its types; its
   * `callBuffer`, which is in its types, loses the command's name with auto-pipelining.
   */
  evalBuffer? (script: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown>
  evalshaBuffer? (sha1: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown>
  /** A command's function that leaves `enableAutoPipelining` aside. */
  createBuiltinCommand? (command: 'eval' | 'evalsha'): { buffer (script: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown> }
  /** Of a Cluster. */
  nodes?: (role: 'master') => { call (command: string, ...args: (string | number)[]): Promise<unknown> }[]
  /** The socket, while there is one; `undefined` for a Cluster. */
  stream?: object
  /** `host`, `port` or `path` of a single Redis, for log lines. */
  options?: object
  ping (): Promise<unknown>
  xrange (key: string, start: string, end: string, count: 'COUNT', n: number): Promise<[id: string, fields: string[]][]>
}

const METHODS = ['call', 'eval', 'evalsha', 'evalBuffer', 'evalshaBuffer', 'ping', 'xrange'] as const satisfies (keyof RedisLike)[]

export function isRedisLike (value: unknown): value is RedisLike {
  return typeof value === 'object' && value !== null &&
    METHODS.every((method) => typeof (value as Record<string, unknown>)[method] === 'function')
}

/** Names a client of another library, and why it does not fit; `undefined` for a value of no known kind. */
export function otherClient (value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const names = value as Record<string, unknown>
  const can = (name: string): boolean => typeof names[name] === 'function'
  if (typeof names['isOpen'] === 'boolean' && can('sendCommand')) return 'a client of node-redis (redis, @redis/client), whose commands take other arguments and give other replies'
  if (typeof names['connected'] === 'boolean' && can('send')) return 'a client of Bun, which runs no scripts whose replies are bytes'
  if (can('send_command')) return 'a client of node-redis 3 or older, which has callbacks'
  if (can('evalsha') && !can('call')) return 'a client that has no "call" and gives no bytes, as ioredis-mock\'s, or Upstash\'s, which speaks HTTP'
  return undefined
}

/** Whether keys of one call have to be in one slot. */
export function isCluster (redis: RedisLike): boolean {
  return typeof redis.nodes === 'function'
}

/**
 * Calls a script at once. With `enableAutoPipelining` a client keeps a call until it has the reply to what it sent before,
 * which calls that are gathered already only wait for. In a Cluster the client's pipelines are what makes one write of the
 * calls for a node.
 */
export function callForBytes (redis: RedisLike, command: 'eval' | 'evalsha', script: string, numKeys: number, ...args: RedisArgument[]): Promise<unknown> {
  const atOnce = hasAutoPipelining(redis) && !isCluster(redis) ? redis.createBuiltinCommand?.(command).buffer : undefined
  return atOnce === undefined ? redis[`${command}Buffer`]!(script, numKeys, ...args) : atOnce.call(redis, script, numKeys, ...args)
}

function hasAutoPipelining ({ options = {} }: RedisLike): boolean {
  return (options as { enableAutoPipelining?: boolean }).enableAutoPipelining === true
}

/** The prefix that the client itself puts before every key. */
export function keyPrefixOf ({ options = {} }: RedisLike): string {
  const { keyPrefix, redisOptions } = options as { keyPrefix?: string, redisOptions?: { keyPrefix?: string } }
  return keyPrefix ?? redisOptions?.keyPrefix ?? ''
}
