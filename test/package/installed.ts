import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What the package brings along may be used by any host. */
const LICENCES = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'ISC', 'MIT']

/** @returns how many packages a project has got, and how large they are @throws when one has another licence */
export function installed (project: string): string {
  const modules = join(project, 'node_modules')
  const packages = readdirSync(modules, { recursive: true, encoding: 'utf8' })
    .filter((path) => /^(?:.+\/node_modules\/)?(?:@[^/]+\/)?[^/@.][^/]*\/package\.json$/.test(path))
    .map((path) => JSON.parse(readFileSync(join(modules, path), 'utf8')) as { name: string, license: string })
  const wrong = packages.filter(({ license }) => !LICENCES.includes(license))
  if (wrong.length > 0) throw new Error(wrong.map(({ name, license }) => `${name}: ${license}`).join(', '))
  return `${packages.length} packages, ${(sizeOf(modules) / 1e6).toFixed(1)} MB`
}

function sizeOf (path: string): number {
  const stat = lstatSync(path)
  return stat.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : stat.size
}

/**
 * Looks whether a text lists the licences of everything that the package brings along: a line for each, with the packages' names.
 * @param lock package-lock.json
 * @throws when one is not there, or under another licence
 */
export function licencesAreTold (text: string, lock: string): void {
  const { packages } = JSON.parse(lock) as { packages: Record<string, Locked> }
  const lines = text.split('\n')
  const untold = [...broughtBy('', packages)].filter((path) => {
    const name = path.replace(/^.*node_modules\//, '')
    return !lines.some((line) => line.startsWith(`- ${packages[path]!.license}: `) && line.includes(`\`${name}\``))
  })
  if (untold.length > 0) throw new Error(`it does not name ${untold.map((path) => `${path} (${packages[path]!.license})`).join(', ')}`)
}

interface Locked {
  license: string
  dependencies?: Record<string, string>
}

/** What a package depends on, by any number of others; not what the demo depends on, in the same lock file. */
function broughtBy (path: string, packages: Record<string, Locked>, found = new Set<string>()): Set<string> {
  for (const name of Object.keys(packages[path]!.dependencies ?? {})) {
    let folder = path // Node's own way: from the innermost folder outwards
    while (folder !== '' && packages[`${folder}/node_modules/${name}`] === undefined) folder = folder.replace(/(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/]+$/, '')
    const dependency = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`
    if (found.has(dependency)) continue
    found.add(dependency)
    broughtBy(dependency, packages, found)
  }
  return found
}
