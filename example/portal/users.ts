/** Someone who may sign in to the portal, without a password: this is a demo. */
export interface DemoUser {
  email: string
  name: string
  /** What there is to see with this user, for the sign-in page. */
  note: string
}

/** Users whom the stand-in ToolJet treats in different ways. */
export const DEMO_USERS: readonly DemoUser[] = [
  { email: 'ana@acme.test', name: 'Ana Torres', note: 'May open both apps.' },
  { email: 'ben@acme.test', name: 'Ben Okafor', note: 'May open both apps too, and gets links of his own.' },
  { email: 'cleo@acme.test', name: 'Cleo Marsh', note: 'May open Inventory, but not Sales pipeline: ToolJet answers 403.' },
  { email: 'dora@acme.test', name: 'Dora Lind', note: 'Has no ToolJet account: ToolJet answers 404.' },
]

/** Users for a ToolJet of one's own, from a list of their e-mails there; without a list the users above. */
export function usersOf (list = ''): readonly DemoUser[] {
  const emails = list.split(',').map((email) => email.trim()).filter((email) => email !== '')
  if (emails.length === 0) return DEMO_USERS
  return emails.map((email) => ({ email, name: email.split('@')[0] ?? email, note: 'A user of your ToolJet.' }))
}
