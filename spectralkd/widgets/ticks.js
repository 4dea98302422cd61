// Checkboxes with a box to search them and buttons that tick many at once.

function render({ model, el }) {
  hear(model)
  el.classList.add('spectralkd-ticks')
  const title = el.appendChild(document.createElement('b'))
  const search = el.appendChild(document.createElement('input'))
  const buttons = el.appendChild(document.createElement('div'))
  const list = el.appendChild(document.createElement('div'))
  list.className = 'spectralkd-list'
  search.type = 'search'

  const boxes = () => [...list.querySelectorAll('input')]
  const shown = () => boxes().filter(box => !box.parentElement.hidden).map(box => box.name)
  function tick(names) {
    const wanted = new Set(names)
    model.set('value', model.get('options').filter(name => wanted.has(name)))
    model.save_changes()
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/)
    for (const line of list.children) {
      line.hidden = !words.every(word => line.textContent.toLowerCase().includes(word))
    }
  }
  function fill() {
    title.textContent = model.get('label')
    search.hidden = model.get('options').length < 8
    search.placeholder = `Search ${model.get('label').toLowerCase()}`
    search.setAttribute('aria-label', search.placeholder)
    list.replaceChildren(...model.get('options').map(name => {
      const line = document.createElement('label')
      const box = line.appendChild(document.createElement('input'))
      Object.assign(box, { type: 'checkbox', name })
      box.onchange = () => tick(boxes().filter(box => box.checked).map(box => box.name))
      line.append(name)
      return line
    }))
    const groups = [['all shown', () => tick([...model.get('value'), ...shown()])],
      ['none', () => tick([])],
      ...Object.entries(model.get('groups')).map(([text, names]) => [text, () => tick(names)])]
    buttons.replaceChildren(...groups.map(([textContent, onclick]) =>
      Object.assign(document.createElement('button'), { type: 'button', textContent, onclick })))
    filter()
    read()
  }
  function read() {
    const ticked = new Set(model.get('value'))
    for (const box of boxes()) box.checked = ticked.has(box.name)
  }
  search.oninput = filter
  model.on('change:options change:groups', fill)
  model.on('change:value', read)
  fill()
  return () => {
    model.off('change:options change:groups', fill)
    model.off('change:value', read)
  }
}

export default { render }
