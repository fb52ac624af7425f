import closeWithGrace from 'close-with-grace'
import { readEnv, toolJetEnv } from '../env.js'
import { whenNpmIsGone } from '../npm.js'
import { readSeed } from './seed.js'
import { ToolJetStandIn } from './server.js'

try {
  const env = readEnv(toolJetEnv)
  const tooljet = await new ToolJetStandIn({
    port: env.PORT,
    host: env.HOST,
    ...(env.TOOLJET_PUBLIC_URL !== undefined && { publicUrl: env.TOOLJET_PUBLIC_URL }),
    apiToken: env.TOOLJET_API_TOKEN,
    tokens: env.TOOLJET_TOKENS,
    patUnit: env.TOOLJET_PAT_UNIT,
    mintsPerMinute: env.TOOLJET_MINTS_PER_MINUTE,
    retryAfter: env.TOOLJET_RETRY_AFTER === 'on',
    access: env.TOOLJET_ACCESS,
    emailCase: env.TOOLJET_EMAIL_CASE,
    messages: env.TOOLJET_MESSAGES,
    lateLoadMs: env.TOOLJET_LATE_LOAD,
    appLoadMs: env.TOOLJET_APP_LOAD,
    ...(env.TOOLJET_SEED !== undefined && { seed: readSeed(env.TOOLJET_SEED) }),
  }).listen()
  const { close } = closeWithGrace(() => tooljet.close())
  whenNpmIsGone(close)
  console.log(`A stand-in for ToolJet listens on ${tooljet.url}`)
} catch (error) {
  console.error(`The stand-in cannot start: ${(error as Error).message}`)
  process.exit(1)
}
