//! Chat templates of our own, each with one published form of calls.

/// By the name that tests know it by.
///
/// # Panics
/// There is no such template.
pub fn own_template(name: &str) -> &'static str {
    match name {
        "qwen3.jinja" => HERMES,
        "llama3.jinja" => LLAMA,
        "mistral.jinja" => MISTRAL,
        "gpt-oss.jinja" => HARMONY,
        "thinks.jinja" => THINKS,
        "thinks-brackets.jinja" => BRACKETS,
        "thinks-actions.jinja" => ACTIONS,
        other => panic!("no template {other}"),
    }
}

const HERMES: &str = r#"
{%- if tools %}
{{- '<|im_start|>system\nTools, called as <tool_call>{"name": ..., "arguments": ...}</tool_call>:' }}
{%- for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\n' }}
{%- if m.role == 'assistant' and m.reasoning_content is defined %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}
{{- '<tool_response>\n' if m.role == 'tool' }}{{ m.content or '' }}{{ '\n</tool_response>' if m.role == 'tool' }}
{%- for call in m.tool_calls or [] %}
{{- '\n' if m.content or not loop.first }}{{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n' if add_generation_prompt }}
{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"#;

const LLAMA: &str = r#"
{{- bos_token }}
{%- if tools %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nAnswer with {"name": ..., "parameters": ...} where a function helps.' }}
{%- for tool in tools %}{{ '\n' + tool | tojson(indent=4) }}{% endfor %}
{{- '<|eot_id|>' }}
{%- endif %}
{%- for m in messages %}
{{- '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\n\n' }}
{%- if m.tool_calls %}
{%- if m.tool_calls | length > 1 %}{{ raise_exception('one call a turn') }}{% endif %}
{%- set call = m.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' }}
{%- else %}{{ m.content | trim }}{% endif %}
{{- '<|eot_id|>' }}
{%- endfor %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt }}"#;

const MISTRAL: &str = r#"
{{- bos_token }}
{%- if tools %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '[TOOL_RESULTS] {"content": ' + m.content | tojson + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- elif m.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}
{{- ', ' if not loop.first }}{{ '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + ', "id": "' + call.id + '"}' }}
{%- endfor %}
{{- ']' + eos_token }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
{%- else %}{{ '[INST] ' + m.content + '[/INST]' }}
{%- endif %}
{%- endfor %}"#;

const HARMONY: &str = r#"
{%- if tools %}
{{- '<|start|>developer<|message|># Tools\n\nnamespace functions {' }}
{%- for tool in tools %}{{ '\n' + tool.function | tojson }}{% endfor %}
{{- '\n}<|end|>' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '<|start|>functions to=assistant<|channel|>commentary<|message|>' + m.content + '<|end|>' }}
{%- elif m.role == 'assistant' %}
{%- if m.thinking is defined %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}
{%- if m.content %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- for call in m.tool_calls or [] %}{{ '<|start|>assistant<|channel|>commentary to=functions.' + call.function.name + ' <|constrain|>json<|message|>' + call.function.arguments | tojson + '<|call|>' }}{% endfor %}
{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}
{%- endif %}
{%- endfor %}
{{- '<|start|>assistant' if add_generation_prompt }}"#;

/// Its prompts end within a thought.
const THINKS: &str = r#"
{%- if tools %}
{{- '<|im_start|>system\nTools, called as <tool_call>{"name": ..., "arguments": ...}</tool_call>:' }}
{%- for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}
{{- m.content or '' }}
{%- for call in m.tool_calls or [] %}
{{- '\n' if m.content or not loop.first }}{{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n<think>\n' if add_generation_prompt }}"#;

const BRACKETS: &str = r#"
{{- bos_token }}
{%- if tools %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '[TOOL_RESULTS] {"content": ' + m.content | tojson + '}[/TOOL_RESULTS]' }}
{%- elif m.role == 'assistant' %}
{%- if m.reasoning_content %}{{ '[THINK]' + m.reasoning_content + '[/THINK]' }}{% endif %}
{{- m.content or '' }}
{%- if m.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in m.tool_calls %}
{{- ', ' if not loop.first }}{{ '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}' }}
{%- endfor %}
{{- ']' }}
{%- endif %}
{{- eos_token }}
{%- else %}{{ '[INST] ' + m.content + '[/INST]' }}
{%- endif %}
{%- endfor %}
{{- '[THINK]' if add_generation_prompt }}"#;

const ACTIONS: &str = r#"
{%- if tools %}{{ '<|im_start|>system\nTools:' }}{% for tool in tools %}{{ '\n' + tool.function | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and m.reasoning_content %}{{ '<|START_THINKING|>' + m.reasoning_content + '<|END_THINKING|>' }}{% endif %}
{{- m.content or '' }}
{%- if m.tool_calls %}
{{- '<|START_ACTION|>[' }}
{%- for call in m.tool_calls %}
{{- ', ' if not loop.first }}{{ '{"tool_call_id": "' ~ loop.index0 ~ '", "tool_name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
{%- endfor %}
{{- ']<|END_ACTION|>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n<|START_THINKING|>' if add_generation_prompt }}"#;
