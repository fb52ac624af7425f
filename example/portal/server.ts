import type { Static } from '@sinclair/typebox'
import closeWithGrace from 'close-with-grace'
import { listOf, portalEnv, readEnv } from '../env.js'
import { consoleTraces } from '../tracing.js'
import { INVENTORY, SALES } from '../tooljet/seed.js'
import type { PortalApp } from './portal-app.js'
import { createPortal, type PortalSettings } from './portal.js'
import { usersOf } from './users.js'

type Env = Static<typeof portalEnv>

function settingsOf (env: Env): PortalSettings {
  const embedOrigins = listOf(env.TOOLJET_EMBED_ORIGINS)
  return {
    tooljet: { url: env.TOOLJET_URL, apiToken: env.TOOLJET_API_TOKEN, ...(embedOrigins.length > 0 && { embedOrigins }) },
    redis: env.REDIS_URL === 'none' ? undefined : env.REDIS_URL,
    jwtSecret: env.JWT_SECRET,
    encryptionKey: env.ENCRYPTION_KEY,
    apps: appsOf(env.TOOLJET_APP_ID),
    users: usersOf(env.DEMO_USERS, env.DEMO_ADMIN),
    ...(env.TRUST_PROXY && { trustProxy: env.TRUST_PROXY }),
    logLevel: env.LOG_LEVEL,
    logFormat: env.LOG_FORMAT,
  }
}

/** One app of a real ToolJet, or those of the stand-in. */
function appsOf (appId: string | undefined): PortalApp[] {
  if (appId) return [{ alias: 'app', appId, name: 'ToolJet app' }]
  return [{ alias: 'sales', appId: SALES.id, name: SALES.name }, { alias: 'inventory', appId: INVENTORY.id, name: INVENTORY.name }]
}

let port = 0
try {
  const env = readEnv(portalEnv, { file: true })
  port = env.PORT
  const traces = env.OTEL_TRACES_EXPORTER === 'console' ? consoleTraces() : undefined
  const portal = createPortal(settingsOf(env))
  const { close } = closeWithGrace({ delay: 8000, logger: portal.log }, async () => {
    await portal.close()
    await traces?.stop()
  })
  await portal.listen({ port, host: env.HOST })

  // started by example/start.ts: tell it, and do not outlive it
  process.send?.('listening')
  process.once('disconnect', close)
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  console.error(`The portal cannot start: ${code === 'EADDRINUSE' ? `port ${port} is already in use` : message}`)
  process.exit(1)
}
