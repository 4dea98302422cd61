// Text to copy: selected as a whole by a click, or copied by the button.

function render({ model, el }) {
  hear(model)
  el.classList.add('spectralkd-code')
  const button = el.appendChild(document.createElement('button'))
  const text = el.appendChild(document.createElement('pre'))
  text.tabIndex = 0
  const show = () => {
    text.textContent = model.get('text')
    text.setAttribute('aria-label', model.get('label'))
    Object.assign(button, { type: 'button', textContent: 'Copy', disabled: !model.get('text') })
    button.title = `Copy: ${model.get('label').toLowerCase()}`
  }
  button.onclick = async () => {
    getSelection().selectAllChildren(text)
    try {
      await navigator.clipboard.writeText(model.get('text'))
      button.textContent = 'Copied'
    } catch { // not allowed, or not there without https
      button.textContent = 'Selected'
    }
  }
  model.on('change:text', show)
  show()
  return () => model.off('change:text', show)
}

export default { render }
