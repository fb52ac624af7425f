import type { Test } from 'tap'
import { createPortal, type PortalSettings } from '../../example/portal/portal.js'
import type { RedisServer } from '../../example/redis.js'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import { API_TOKEN, INVENTORY, JWT_SECRET, newPrefix, SALES } from './portal.js'
import { newClient } from './redis-client.js'
import { keysOf, sharedRedisUrl } from './redis.js'

const APPS = [{ alias: 'sales', appId: SALES.id, name: SALES.name }, { alias: 'inventory', appId: INVENTORY.id, name: INVENTORY.name }]

/** The portal of the example in this process. @param server a Redis of its own, which stops with it */
export async function openPortal (t: Test, { server, apps = APPS, embed }: { server?: RedisServer | undefined, apps?: PortalSettings['apps'], embed?: PortalSettings['embed'] } = {}) {
  // a browser's page and frame are then of one site, as with `npm start`
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN, host: 'localhost' }).listen()
  const redisUrl = server?.url ?? await sharedRedisUrl()
  const keyPrefix = newPrefix()
  const app = createPortal({
    tooljet: { url: toolJet.url, apiToken: API_TOKEN },
    redis: redisUrl,
    jwtSecret: JWT_SECRET,
    apps,
    logLevel: 'silent',
    embed: { keyPrefix, ...embed },
  })
  const redis = newClient(redisUrl)
  t.teardown(async () => {
    await app.close()
    await toolJet.close()
    if (server === undefined) await Promise.all((await keysOf(redis, keyPrefix)).map((key) => redis.del(key)))
    redis.disconnect()
    await server?.stop()
  })
  await app.listen({ port: 0, host: 'localhost' })
  const { port } = app.server.address() as { port: number }
  return { app, toolJet, redis, keyPrefix, port, url: `http://localhost:${port}` }
}
