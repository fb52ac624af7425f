import type { RedisOptions } from 'ioredis'

/** The form of a Redis URL, for messages. */
export const REDIS_URL = 'a URL like redis://user:password@host:6379/0, or rediss:// for TLS'

/** The query parameters that are allowed: options of ioredis whose value is a string. */
const PARAMETERS = ['db', 'family', 'connectionName', 'keyPrefix']

/** A URL that is not one of Redis; the message completes "the URL …", and shows no part of it. */
export class RedisUrlError extends Error {}

/**
 * Reads a URL as ioredis does, but refuses what ioredis would misread: it would take a database that is no number for
 * another one, and a missing host for this machine.
 * @returns the options of the client
 * @throws RedisUrlError
 */
export function parseRedisUrl (url: string): RedisOptions {
  if (url === '') throw new RedisUrlError('is empty')
  if (!/^rediss?:\/\//i.test(url)) throw new RedisUrlError('does not begin with redis:// or rediss://')
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || parsed.hash !== '') throw new RedisUrlError('is no URL: in a user name or password write %2F for "/", %3F for "?", %23 for "#", %40 for "@", %3A for ":"')
  const { protocol, hostname, port, username, password, pathname, searchParams } = parsed
  if (hostname === '') throw new RedisUrlError('names no host')
  if ([...searchParams.keys()].some((name) => !PARAMETERS.includes(name))) throw new RedisUrlError(`has a parameter other than ${PARAMETERS.join(', ')}`)
  const db = pathname.length > 1 ? pathname.slice(1) : searchParams.get('db') ?? '0'
  if (!/^\d{1,9}$/.test(db)) throw new RedisUrlError('has a database that is no number')
  const family = searchParams.get('family') ?? '0'
  if (!/^[046]$/.test(family)) throw new RedisUrlError('has a family other than 4 and 6')
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port || 6379),
    db: Number(db),
    ...(searchParams.has('family') && { family: Number(family) }),
    ...(username + password !== '' && { username: decode(username), password: decode(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
    ...(searchParams.has('connectionName') && { connectionName: searchParams.get('connectionName')! }),
    ...(searchParams.has('keyPrefix') && { keyPrefix: searchParams.get('keyPrefix')! }),
  }
}

/** What is wrong with a URL, to complete "it …"; `undefined` when it is right. No part of it is shown. */
export function redisUrlProblem (url: string): string | undefined {
  try {
    parseRedisUrl(url)
    return undefined
  } catch (error) {
    if (error instanceof RedisUrlError) return error.message
    throw error
  }
}

function decode (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new RedisUrlError('has a "%" in its user name or password that begins no escape: write %25')
  }
}
