type Arg = string | number

/**
 * What the plugin needs of a Redis client: ioredis 5 and 6, `Redis` and `Cluster`, have it.
 * Nothing here imports the client's classes, so the host's own version is the one that is used.
 */
export interface RedisLike {
  call (command: string, ...args: Arg[]): Promise<unknown>
  eval (script: string, numKeys: number, ...args: Arg[]): Promise<unknown>
  evalsha (sha1: string, numKeys: number, ...args: Arg[]): Promise<unknown>
  /** Of a Cluster. */
  nodes?: (role: 'master') => { call (command: string, ...args: Arg[]): Promise<unknown> }[]
  /** The socket, while there is one; a Cluster has several, and shows none. */
  stream?: { cork (): void, uncork (): void }
  ping (): Promise<unknown>
  pttl (key: string): Promise<number>
  time (): Promise<Arg[]>
  xrange (key: string, start: string, end: string, count: 'COUNT', n: number): Promise<[id: string, fields: string[]][]>
  xrevrange (key: string, end: string, start: string, count: 'COUNT', n: number): Promise<[id: string, fields: string[]][]>
}

const METHODS = ['call', 'eval', 'evalsha', 'ping', 'pttl', 'time', 'xrange', 'xrevrange'] as const satisfies (keyof RedisLike)[]

export function isRedisLike (value: unknown): value is RedisLike {
  return typeof value === 'object' && value !== null &&
    METHODS.every((method) => typeof (value as Record<string, unknown>)[method] === 'function')
}
