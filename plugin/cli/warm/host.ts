import Fastify, { type FastifyInstance } from 'fastify'
import plugin from '../../index.js'
import type { TooljetEmbedOptions } from '../../config/options.js'
import { isReply } from '../../redis/errors.js'
import { Connection } from '../connection.js'
import { RedisError } from '../errors.js'
import type { Output } from '../output.js'

const LEVELS: Record<number, string> = { 40: 'warning', 50: 'error', 60: 'error' }

/**
 * An app with nothing but the plugin.
 * @throws RedisError when Redis cannot be reached, or does not accept writes
 */
export async function openHost (options: TooljetEmbedOptions & { redis: string }, out: Output): Promise<FastifyInstance> {
  await reachRedis(options.redis)
  const write = (line: string): void => {
    out.progress() // it is shown again with the next update
    out.note(readable(line))
  }
  const app = Fastify({ logger: { level: 'warn', base: null, stream: { write } } })
  app.register(plugin, options)
  await app.ready()
  const { redis } = await app.tooljetEmbed.health()
  if (redis.state === 'up') return app
  await app.close()
  throw new RedisError('Redis does not accept writes')
}

/** Fails at once without Redis, where the plugin itself would wait. */
async function reachRedis (url: string): Promise<void> {
  const connection = await Connection.open({ url })
  try {
    await connection.call('PING')
  } catch (error) {
    if (!isReply(error)) throw error
    if (!error.message.startsWith('NOPERM')) throw new RedisError(`Redis refuses: ${error.message}`, { cause: error })
  } finally {
    connection.close()
  }
}

/** A line of the plugin's log for people: the message, then its other fields. */
function readable (json: string): string {
  const { level, time: _, msg, err, ...others } = JSON.parse(json) as { level: number, time: number, msg: string, err?: { message: string } }
  const more = Object.keys(others).length > 0 ? ` ${JSON.stringify(others)}` : ''
  return `${LEVELS[level]}: ${msg.replace(/^tooljet-embed: /, '')}${err === undefined ? '' : `: ${err.message}`}${more}`
}
