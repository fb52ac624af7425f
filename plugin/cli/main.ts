#!/usr/bin/env node
import { run } from './run.js'

/* `npx tooljet-embed-audit` */

function interrupted (): AbortSignal {
  const controller = new AbortController()
  // not once: whoever started this, npx say, may pass on a Ctrl-C that the terminal has sent to both
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort())
  return controller.signal
}

process.exitCode = await run(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, env: process.env, interrupted })
