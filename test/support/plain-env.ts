/** The environment for a child process whose code coverage is not to be measured: its lines are not those of the sources. */
export function plainEnv (): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(?:_?TAP|NODE_V8_COVERAGE|NODE_OPTIONS)/.test(name))
  return { ...Object.fromEntries(own), _TAPJS_PROCESSINFO_EXCLUDE_: '/./' }
}
