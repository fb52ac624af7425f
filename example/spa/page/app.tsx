import 'fastify-tooljet-embed/client'
import { useState, type ReactElement } from 'react'
import { API_URL, Session } from './session.js'
import { SignIn } from './sign-in.js'

const APPS = { sales: 'Sales pipeline', inventory: 'Inventory' }

export function App (): ReactElement {
  const [session, setSession] = useState<Session>()
  const [note, setNote] = useState('')

  function signOut (why: string): void {
    session?.end()
    setSession(undefined)
    setNote(why)
  }

  return session === undefined
    ? <SignIn note={note} onSignIn={setSession} />
    : <Apps session={session} onSignOut={signOut} />
}

function Apps ({ session, onSignOut }: { session: Session, onSignOut: (why: string) => void }): ReactElement {
  const [chosen, choose] = useState('sales')

  return (
    <>
      <header>
        <strong>Acme</strong>
        <nav>
          {Object.entries(APPS).map(([app, name]) => (
            <button key={app} aria-current={app === chosen} onClick={() => choose(app)}>{name}</button>
          ))}
        </nav>
        <span>{session.email}</span>
        <button onClick={() => onSignOut('You have signed out.')}>Sign out</button>
      </header>
      <main>
        <tooljet-embed
          app={chosen}
          endpoint={`${API_URL}/api/get-tooljet-url`}
          headers={session.headers}
          onerror={({ detail }) => {
            if (detail.status === 401) onSignOut('Your session has ended. Please sign in again.')
          }}
        />
      </main>
    </>
  )
}
