{# The days on which the terms of a tenant's overdue accounts were last read, for `read_on`. #}
{% macro days_of_terms() -%}
    select distinct
        daily.source_relation,
        daily.last_observed_date
    from {{ ref('crmcom__account_daily') }} as daily
    inner join {{ ref('int_crmcom__as_of') }} as as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.overdue_gross > 0
{%- endmacro %}
