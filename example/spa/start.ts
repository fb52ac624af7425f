import { randomBytes } from 'node:crypto'
import closeWithGrace from 'close-with-grace'
import { readEnv, spaEnv } from '../env.js'
import { whenNpmIsGone } from '../npm.js'
import { provideRedis } from '../redis.js'
import { ToolJetStandIn } from '../tooljet/server.js'
import { createApi, USERS } from './api.js'
import { servePage } from './serve-page.js'

/** What has been started, and how it is stopped: last one first. */
const stops: Array<() => Promise<unknown>> = []

const { close } = closeWithGrace({ delay: 8000, logger: false }, async ({ err }) => {
  if (err !== undefined) console.error(`The example cannot start: ${err.message}`)
  for (const stop of stops.reverse()) await stop()
})
whenNpmIsGone(close)

const { PORT, REDIS_URL } = readEnv(spaEnv)
const pageUrl = `http://localhost:${PORT}`
const apiUrl = `http://localhost:${PORT + 1}`

const redis = await provideRedis(6379, REDIS_URL)
stops.push(() => redis.stop())

const tooljet = await new ToolJetStandIn({ host: 'localhost', apiToken: 'tooljet-demo-token' }).listen()
stops.push(() => tooljet.close())

const api = createApi({
  pageOrigin: pageUrl,
  jwtSecret: randomBytes(32).toString('base64url'),
  tooljet: { url: tooljet.url, apiToken: 'tooljet-demo-token' },
  redis: redis.url,
  embed: { encryptionKey: randomBytes(32).toString('base64url') },
})
stops.push(() => api.close())
await api.listen({ port: PORT + 1, host: 'localhost' })

const page = await servePage({ port: PORT, apiUrl })
stops.push(() => page.close())

console.log(`
  Page      ${pageUrl} (Vite and React)
  API       ${apiUrl} (bearer tokens, CORS for the page)
  ToolJet   ${tooljet.url} (a stand-in)
  Redis     ${redis.how}

  Sign in as
${USERS.map(({ email, note }) => `    ${email.padEnd(14)}  ${note}`).join('\n')}

  Ctrl-C stops all of it.
`)
