import { test } from 'tap'
import { Closers } from '../plugin/closers.js'

test('what fails to close keeps nothing else open, and is told', async (t) => {
  const closers = new Closers()
  const closed: string[] = []
  closers.add(() => closed.push('first'))
  closers.add(() => { throw new Error('it does not close') })
  closers.add(async () => { closed.push('last') })
  await t.rejects(closers.close(10), { message: 'it does not close' })
  t.same(closed, ['last', 'first'])
  await t.rejects(closers.close(10), { message: 'it does not close' }, 'once')
  await t.rejects(new Closers().closeOnError(async () => { throw new Error('a step') }), { message: 'a step' })
})
