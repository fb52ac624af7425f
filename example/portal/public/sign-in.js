const people = document.getElementById('people')
const status = document.getElementById('status')

/** Made of elements, never of HTML text: whatever a name holds stays text. */
function element (tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

function person ({ email, name, note }) {
  const avatar = element('span', { className: 'avatar', ariaHidden: 'true' }, name.slice(0, 1).toUpperCase())
  const text = element('span', { className: 'person-text' },
    element('strong', {}, name),
    element('span', { className: 'person-email' }, email),
    element('span', { className: 'soft' }, note))
  return element('li', {}, element('button', { className: 'person', name: 'email', value: email }, avatar, text))
}

try {
  const response = await fetch('/api/demo-users')
  if (!response.ok) throw new Error(`status ${response.status}`)
  people.append(...(await response.json()).map(person))
  status.textContent = ''
} catch {
  status.textContent = 'The portal cannot be reached. Reload this page to try again.'
}
