const LOOK_EVERY_MS = 500

/** Calls back when `npm` has ended: a SIGTERM to npm ends npm's shell, and does not come to what that shell has started. */
export function whenNpmIsGone (callback: () => void): void {
  if (process.env['npm_lifecycle_event'] === undefined) return
  const npmShell = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === npmShell) return
    clearInterval(timer)
    callback()
  }, LOOK_EVERY_MS).unref()
}
