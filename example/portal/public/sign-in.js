import { make } from './shell.js'

const people = document.getElementById('people')
const status = document.getElementById('status')

function person ({ email, name, note }) {
  const avatar = make('span', { className: 'avatar', ariaHidden: 'true' }, name.slice(0, 1).toUpperCase())
  const text = make('span', { className: 'person-text' },
    make('strong', {}, name),
    make('span', { className: 'person-email' }, email),
    make('span', { className: 'soft' }, note))
  return make('li', {}, make('button', { className: 'person', name: 'email', value: email }, avatar, text))
}

try {
  const response = await fetch('/api/demo-users')
  if (!response.ok) throw new Error(`status ${response.status}`)
  people.append(...(await response.json()).map(person))
  status.textContent = ''
} catch {
  status.textContent = 'The portal cannot be reached. Reload this page to try again.'
}
