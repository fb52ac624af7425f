/** Someone who may sign in to the portal, without a password: this is a demo. */
export interface DemoUser {
  email: string
  name: string
  /** What there is to see with this user, for the sign-in page. */
  note: string
  /** Whether the audit log is theirs to see. */
  isAdmin?: boolean
}

/** Users whom the stand-in ToolJet treats in different ways. */
export const DEMO_USERS: readonly DemoUser[] = [
  { email: 'ana@acme.test', name: 'Ana Torres', note: 'May open both apps.' },
  { email: 'ben@acme.test', name: 'Ben Okafor', note: 'May open both apps too, and gets links of his own.' },
  { email: 'cleo@acme.test', name: 'Cleo Marsh', note: 'May open Inventory, but not Sales pipeline: ToolJet answers 403.' },
  { email: 'dora@acme.test', name: 'Dora Lind', note: 'Has no ToolJet account: ToolJet answers 404.' },
  { email: 'omar@acme.test', name: 'Omar Reyes', note: 'Audit officer: sees the audit log. May open both apps.', isAdmin: true },
]

/**
 * Users for a ToolJet of one's own, from a list of their e-mails there; without a list the users above.
 * @param admin e-mail of the one who sees the audit log, in the list or not; without it, of a list nobody does
 */
export function usersOf (list = '', admin = ''): readonly DemoUser[] {
  const emails = list.split(',').map((email) => email.trim()).filter((email) => email !== '')
  const users = emails.length === 0 ? DEMO_USERS : emails.map((email) => userOf(email, 'A user of your ToolJet.'))
  const adminEmail = admin.trim()
  if (adminEmail === '') return users
  const others = users.filter(({ email, isAdmin }) => isAdmin !== true && spellingOf(email) !== spellingOf(adminEmail))
  return [...others, { ...userOf(adminEmail, 'Sees the audit log (DEMO_ADMIN).'), isAdmin: true }]
}

/** One spelling for one user, by the plugin's rule: letters other than ASCII are never taken for each other. */
export function spellingOf (email: string): string {
  return email.replace(/^[ \t-\r]+/, '').replace(/[ \t-\r]+$/, '').replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

/** Whether this is the audit log's admin. */
export function isAdmin (users: readonly DemoUser[], email: string): boolean {
  return users.some((user) => user.email === email && user.isAdmin === true)
}

function userOf (email: string, note: string): DemoUser {
  return { email, name: email.split('@')[0] ?? email, note }
}
