/* Paths of routes as Fastify's router has them: `:name`, `:name(\\d+)` and `*` are parameters, and `::` is a colon. */

const PARAMETER = /::|:([^/:(.-]+)(?:\((?:[^()]|\([^()]*\))*\))?|\*/g

/** Whether a request's path has to be made of it first. */
function hasParameters (pattern: string): boolean {
  return [...pattern.matchAll(PARAMETER)].some(([found]) => found !== '::')
}

/**
 * The path of a request, percent-encoded.
 * @param paramOf the value of a parameter
 */
export function fillPath (pattern: string, paramOf: (name: string) => string): string {
  let end = 0
  let path = ''
  for (const { 0: found, 1: name, index } of pattern.matchAll(PARAMETER)) {
    path += encodeURI(pattern.slice(end, index)) + valueOf(found, name)
    end = index + found.length
  }
  return path + encodeURI(pattern.slice(end))

  function valueOf (found: string, name: string | undefined): string {
    if (found === '::') return ':'
    // a wildcard stands for several segments
    return name === undefined ? encodeURI(paramOf('*')) : encodeURIComponent(paramOf(name))
  }
}

/**
 * The way from one route to another for a browser, which knows nothing of prefixes, parameters and proxies in front.
 * @returns a relative URL; nothing when the other one has parameters of its own
 */
export function relativePath (from: string, to: string): string | undefined {
  const folders = from.split('/').slice(0, -1)
  const segments = to.split('/')
  let shared = 0
  while (shared < Math.min(folders.length, segments.length - 1) && folders[shared] === segments[shared]) shared++
  const rest = segments.slice(shared).join('/')
  if (from.includes('*') || hasParameters(rest)) return undefined
  return ('../'.repeat(folders.length - shared) || './') + fillPath(rest, String)
}
