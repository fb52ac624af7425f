import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const CACHE = join(import.meta.dirname, '../node_modules/.cache')

/** Whether {@link unpackRedis} works here. */
export function canUnpackRedis (): boolean {
  return process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')
}

/**
 * Debian's redis-server, unpacked below node_modules and put on the PATH of this process and of those it starts. Nothing is
 * installed on the machine.
 */
export function unpackRedis (cache = CACHE): void {
  const folder = join(cache, 'redis')
  if (!existsSync(folder)) {
    console.error('There is no Redis on this machine: Debian\'s package redis-server is unpacked in node_modules/.cache')
    unpackTo(folder, cache)
  }
  const libraries = readdirSync(join(folder, 'usr/lib'), { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name.includes('-linux-'))
  append('PATH', join(folder, 'usr/bin'))
  for (const { name } of libraries) append('LD_LIBRARY_PATH', join(folder, 'usr/lib', name))
}

/** As a whole or not at all: others may do the same at the same time. */
function unpackTo (folder: string, cache: string): void {
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'redis-'))
  try {
    mkdirSync(join(work, 'packages/partial'), { recursive: true })
    mkdirSync(join(work, 'root/usr/lib'), { recursive: true })
    execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore' })
    execFileSync('apt-get', [
      'install', '-y', '-qq', '--download-only', '--reinstall', '--no-install-recommends', '-o', 'APT::Sandbox::User=root', '-o', `Dir::Cache::archives=${join(work, 'packages')}`, 'redis-server', 'redis-tools',
    ], { stdio: ['ignore', 'ignore', 'inherit'] })
    for (const file of readdirSync(join(work, 'packages')).filter((file) => file.endsWith('.deb'))) execFileSync('dpkg', ['-x', join(work, 'packages', file), join(work, 'root')])
    if (!existsSync(folder)) renameSync(join(work, 'root'), folder)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function append (name: string, folder: string): void {
  process.env[name] = [process.env[name], folder].filter(Boolean).join(delimiter)
}
