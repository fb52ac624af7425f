import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { newClient } from './redis.js'

const DOCS = readFileSync(new URL('../../docs/audit.md', import.meta.url), 'utf8')

/** An `ACL SETUSER` of docs/audit.md, as words, for keys of another prefix. */
function aclRule (user: 'tooljet-embed' | 'auditor', prefix: string): string[] {
  const [, line] = new RegExp(`^redis-cli (ACL SETUSER ${user} (?:.*\\\\\\n)*.*)$`, 'm').exec(DOCS)!
  const words = [...line!.replaceAll('\\\n', '').matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => (quoted ?? plain)!)
  return words.map((word, i) => (i === 2 ? `${user}-test` : word.replaceAll('tooljet-embed:', prefix)))
}

/** Makes the user. @returns the URL to sign in with; the given one where Redis knows no such rules (6.2) */
export async function urlFor (user: 'tooljet-embed' | 'auditor', url: string, prefix: string): Promise<string> {
  const admin = newClient(url)
  try {
    await setUser(admin, user, prefix)
  } catch (error) {
    if (error instanceof Error && /Error in ACL SETUSER modifier/.test(error.message)) return url
    throw error
  } finally {
    admin.disconnect()
  }
  const password = user === 'auditor' ? 'change-me-too' : 'change-me'
  return Object.assign(new URL(url), { username: `${user}-test`, password }).href
}

async function setUser (admin: Redis, user: 'tooljet-embed' | 'auditor', prefix: string): Promise<void> {
  const [command, ...args] = aclRule(user, prefix)
  await admin.call(command!, ...args)
}
