import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { newClient } from './redis-client.js'

const DOCS = readFileSync(new URL('../../docs/audit.md', import.meta.url), 'utf8')

/** An `ACL SETUSER` of docs/audit.md, as words, for keys of another prefix. */
function aclRule (user: 'tooljet-embed' | 'auditor', prefix: string, without: string): string[] {
  const [, line] = new RegExp(`^redis-cli (ACL SETUSER ${user} (?:.*\\\\\\n)*.*)$`, 'm').exec(DOCS)!
  const words = [...line!.replaceAll('\\\n', '').matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => (quoted ?? plain)!)
  const lacking = (word: string): string => (word.startsWith('(') && !word.startsWith('(~tooljet-embed:audit ') ? word : word.replace(without, ''))
  return words.map((word, i) => (i === 2 ? `${user}-test` : lacking(word).replaceAll('tooljet-embed:', prefix))).filter((word) => word !== '')
}

/** Makes the user. @param without like `+xrange`: what it lacks on the stream @returns the URL to sign in with; the given one where Redis knows no such rules (6.2) */
export async function urlFor (user: 'tooljet-embed' | 'auditor', url: string, prefix: string, without = ''): Promise<string> {
  const admin = newClient(url)
  try {
    await setUser(admin, user, prefix, without)
  } catch (error) {
    if (error instanceof Error && /Error in ACL SETUSER modifier/.test(error.message)) return url
    throw error
  } finally {
    admin.disconnect()
  }
  const password = user === 'auditor' ? 'change-me-too' : 'change-me'
  return Object.assign(new URL(url), { username: `${user}-test`, password }).href
}

async function setUser (admin: Redis, user: 'tooljet-embed' | 'auditor', prefix: string, without: string): Promise<void> {
  const [command, ...args] = aclRule(user, prefix, without)
  await admin.call(command!, ...args)
}
