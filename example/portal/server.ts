import closeWithGrace from 'close-with-grace'
import { INVENTORY, SALES } from '../tooljet/seed.js'
import { createPortal, type PortalApp, type PortalSettings } from './portal.js'
import { usersOf } from './users.js'

const { env } = process

/** @throws with every variable that is missing */
function settingsOf (): PortalSettings {
  const missing = ['REDIS_URL', 'TOOLJET_URL', 'TOOLJET_API_TOKEN', 'JWT_SECRET'].filter((name) => !env[name])
  if (missing.length > 0) throw new Error(`the environment lacks ${missing.join(', ')}`)
  const embedOrigins = (env['TOOLJET_EMBED_ORIGINS'] ?? '').split(',').map((origin) => origin.trim()).filter((origin) => origin !== '')
  return {
    tooljet: { url: env['TOOLJET_URL']!, apiToken: env['TOOLJET_API_TOKEN']!, ...(embedOrigins.length > 0 && { embedOrigins }) },
    redis: env['REDIS_URL']!,
    jwtSecret: env['JWT_SECRET']!,
    apps: appsOf(env['TOOLJET_APP_ID']),
    users: usersOf(env['DEMO_USERS'], env['DEMO_ADMIN']),
    ...(env['TRUST_PROXY'] && { trustProxy: env['TRUST_PROXY'] }),
    logLevel: env['LOG_LEVEL'] || 'warn',
  }
}

/** One app of a real ToolJet, or those of the stand-in. */
function appsOf (appId: string | undefined): PortalApp[] {
  if (appId) return [{ alias: 'app', appId, name: 'ToolJet app' }]
  return [{ alias: 'sales', appId: SALES.id, name: SALES.name }, { alias: 'inventory', appId: INVENTORY.id, name: INVENTORY.name }]
}

function portOf (value: string): number {
  if (/^\d+$/.test(value) && Number(value) < 65_536) return Number(value)
  throw new Error(`PORT is "${value}", it takes a port number`)
}

try {
  const port = portOf(env['PORT'] ?? '3001')
  const portal = createPortal(settingsOf())
  const { close } = closeWithGrace({ delay: 8000, logger: portal.log }, () => portal.close())
  await portal.listen({ port, host: env['HOST'] ?? 'localhost' })

  // started by example/start.ts: tell it, and do not outlive it
  process.send?.('listening')
  process.once('disconnect', close)
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  console.error(`The portal cannot start: ${code === 'EADDRINUSE' ? `port ${env['PORT'] ?? '3001'} is already in use` : message}`)
  process.exit(1)
}
