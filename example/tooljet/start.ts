import closeWithGrace from 'close-with-grace'
import { whenNpmIsGone } from '../npm.js'
import { readSeed } from './seed.js'
import { ToolJetStandIn } from './server.js'
import type { TokenMode } from './tokens.js'

const { PORT = '3000', HOST = 'localhost', TOOLJET_PUBLIC_URL, TOOLJET_API_TOKEN = 'tooljet-demo-token', TOOLJET_TOKENS = 'insert', TOOLJET_PAT_UNIT = 'seconds', TOOLJET_MINTS_PER_MINUTE = '10', TOOLJET_SEED } = process.env

function oneOf<T extends string> (name: string, value: string, accepted: readonly T[]): T {
  if ((accepted as readonly string[]).includes(value)) return value as T
  throw new Error(`${name} is "${value}", it takes ${accepted.join(' | ')}`)
}

function wholeNumber (name: string, value: string): number {
  if (/^\d+$/.test(value)) return Number(value)
  throw new Error(`${name} is "${value}", it takes a whole number, 0 or more`)
}

const tooljet = await new ToolJetStandIn({
  port: wholeNumber('PORT', PORT),
  host: HOST,
  ...(TOOLJET_PUBLIC_URL !== undefined && { publicUrl: TOOLJET_PUBLIC_URL }),
  apiToken: TOOLJET_API_TOKEN,
  tokens: oneOf<TokenMode>('TOOLJET_TOKENS', TOOLJET_TOKENS, ['insert', 'replace', 'keep', 'per-app']),
  patUnit: oneOf<'seconds' | 'minutes'>('TOOLJET_PAT_UNIT', TOOLJET_PAT_UNIT, ['seconds', 'minutes']),
  mintsPerMinute: wholeNumber('TOOLJET_MINTS_PER_MINUTE', TOOLJET_MINTS_PER_MINUTE),
  ...(TOOLJET_SEED !== undefined && { seed: readSeed(TOOLJET_SEED) }),
}).listen()
const { close } = closeWithGrace(() => tooljet.close())
whenNpmIsGone(close)
console.log(`A stand-in for ToolJet listens on ${tooljet.url}`)
