import type { FastifyInstance } from 'fastify'
import type { TooljetEmbedWarmOptions, TooljetEmbedWarmPair, TooljetEmbedWarmProgress, TooljetEmbedWarmReport } from '../../warm.js'
import { EXIT, UnreachableError, UsageError } from '../errors.js'
import { parseOptions, type OptionName } from '../options.js'
import type { Output } from '../output.js'
import { portalSettingsOf } from '../portal-settings.js'
import { runProgram, writeVersion, type Program, type Io } from '../run-program.js'
import { jsonLine, plural } from '../text.js'
import { readPairs } from './pairs.js'

const OPTION_NAMES: OptionName[] = ['valid-for', 'pat-expiry', 'session-expiry', 'min-remaining', 'key-prefix', 'stream', 'pseudonyms', 'mint-limit', 'check-access', 'key-file', 'dry-run', 'json', 'version']

/** Wrong lines, and failed pairs, that are listed. */
const MAX_LISTED = 20
const LOOK_MS = 1000

export const run: Program = (args, io) => runProgram('tooljet-embed-warm', io, (out) => runWarm(args, out, io))

async function runWarm (args: string[], out: Output, { stdin = process.stdin, env, interrupted }: Io): Promise<number> {
  const { given, positionals } = parseOptions(args, OPTION_NAMES)
  if (given.version !== undefined) return writeVersion(out)
  if (given.help !== undefined) {
    const { warmHelp } = await import('./help.js')
    await out.write(warmHelp(OPTION_NAMES))
    return EXIT.fine
  }
  const [file, ...others] = positionals
  if (file === undefined || others.length > 0) throw new UsageError('expected one FILE, or - for standard input')

  const { pairs, problems } = await readPairs(file, stdin)
  reportLines(problems, 'line', out)
  if (problems.length > 0) throw new UsageError(`${plural(problems.length, 'line')} cannot be used, and nothing was done`)
  if (pairs.length === 0) throw new UsageError('there is no pair of an address and an app in it')
  if (given['dry-run'] !== undefined) {
    await out.write(given.json === undefined ? `${plural(pairs.length, 'pair')}, nothing was done\n` : jsonLine({ total: pairs.length }))
    return EXIT.fine
  }

  const { options, validFor } = portalSettingsOf(given, env)
  const stop = interrupted(EXIT.stopped)
  const { openHost } = await import('./host.js')
  const app = await openHost(options, out)
  try {
    const report = await warm(app, pairs, { signal: stop, validFor }, out)
    const { counts } = await import('./progress.js')
    const { minted, alreadyCached, failed } = report
    const isStopped = minted + alreadyCached + failed.length < pairs.length
    await out.write(given.json === undefined ? `${counts({ minted, alreadyCached, failed: failed.length })}\n` : jsonLine({ total: pairs.length, ...report, isStopped }))
    reportLines(failed.map(({ email, app: name, code }) => `${email} ${name}: ${code}`), 'pair', out)
    if (isStopped) out.note('stopped; run it again to go on: what is cached costs no call')
    if (isStopped) return EXIT.stopped
    return failed.length > 0 ? EXIT.failed : EXIT.fine
  } finally {
    await app.close()
  }
}

/** @throws UnreachableError when the first mints fail */
async function warm (app: FastifyInstance, pairs: TooljetEmbedWarmPair[], { signal, validFor }: { signal: AbortSignal, validFor: number | undefined }, out: Output): Promise<TooljetEmbedWarmReport> {
  const { WarmProgress } = await import('./progress.js')
  const progress = new WarmProgress(out)
  const giveUp = new AbortController()
  let reached: TooljetEmbedWarmProgress = { done: 0, total: pairs.length, minted: 0, alreadyCached: 0, failed: 0 }
  let isOver = false
  let lastFailure: string | undefined
  const look = async (): Promise<void> => {
    const health = await app.tooljetEmbed.health()
    if (isOver) return
    const { state, code } = health.tooljet
    if (reached.minted + reached.failed === 0 && state === 'failing' && code !== 'TOOLJET_EMBED_BUSY') {
      lastFailure = code
      giveUp.abort()
    }
    progress.show(reached, health)
  }
  const timer = setInterval(look, LOOK_MS) // `health` never throws
  const options: TooljetEmbedWarmOptions = { signal: AbortSignal.any([signal, giveUp.signal]), onProgress: (now) => { reached = now }, ...(validFor !== undefined && { validFor }) }
  try {
    const report = await app.tooljetEmbed.warm(pairs, options)
    if (lastFailure !== undefined && report.minted === 0) throw new UnreachableError(`ToolJet mint failed: ${lastFailure}`)
    return report
  } finally {
    isOver = true
    clearInterval(timer)
    progress.end()
  }
}

function reportLines (lines: readonly string[], thing: string, out: Output): void {
  for (const line of lines.slice(0, MAX_LISTED)) out.note(line)
  if (lines.length > MAX_LISTED) out.note(`and ${plural(lines.length - MAX_LISTED, thing)} more`)
}
