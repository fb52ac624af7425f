#!/usr/bin/env node
import { writeSync } from 'node:fs'

/* `node_modules/.bin/tooljet-embed-audit` */

/** As in `EXIT.unexpected`: Node's own code would be 1, which is what `verify` says of a log. */
const UNEXPECTED = 70
/** As in `EXIT.redis`. */
const NO_ANSWER = 3

let hasEnded = false

process.on('uncaughtException', (error: unknown) => {
  const [reason] = String(error).split('\n')
  writeSync(2, `tooljet-embed-audit: unexpected error: ${reason}\n`)
  process.exit(UNEXPECTED)
})

function interrupted (): AbortSignal {
  const controller = new AbortController()
  // not once: whoever started this, npx say, may pass on a Ctrl-C that the terminal has sent to both
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort())
  return controller.signal
}

// nothing is left that could bring an answer: Node's own code would be 13
process.once('beforeExit', () => {
  if (hasEnded) return
  writeSync(2, 'tooljet-embed-audit: Redis gave no answer\n')
  process.exit(NO_ANSWER)
})

// not sooner: what is wrong with a module comes to the handler above, too
const { run } = await import('./run.js')
process.exitCode = await run(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, env: process.env, interrupted })
hasEnded = true
