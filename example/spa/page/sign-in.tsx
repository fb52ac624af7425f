import { useEffect, useState, type ReactElement } from 'react'
import { API_URL, Session } from './session.js'

interface DemoUser {
  email: string
  name: string
  note: string
}

export function SignIn ({ note, onSignIn }: { note: string, onSignIn: (session: Session) => void }): ReactElement {
  const [users, setUsers] = useState<DemoUser[]>([])
  const [error, setError] = useState('')

  function fail ({ message }: Error): void {
    setError(message)
  }

  useEffect(() => {
    fetch(`${API_URL}/api/demo-users`).then((response) => response.json()).then(setUsers, fail)
  }, [])

  return (
    <main className='sign-in'>
      <h1>Sign in</h1>
      <p role='status'>{error || note}</p>
      {users.map(({ email, name, note }) => (
        <button key={email} onClick={() => { Session.signIn(email).then(onSignIn, fail) }}>
          <strong>{name}</strong> {email}
          <small>{note}</small>
        </button>
      ))}
    </main>
  )
}
