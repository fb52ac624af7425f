/** The environment without what the test runner put into it: a child process is not measured. */
export function plainEnv (): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(?:_?TAP|NODE_V8_COVERAGE|NODE_OPTIONS)/.test(name)))
}
